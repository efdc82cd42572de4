//! Clock times: five-field POSIX cron in IANA time zones.
//!
//! `minute hour day-of-month month day-of-week`, each `*`, a number, a range `a-b`, a step `*/n` or `a-b/n`, or a list of
//! these with commas; months and weekdays also by their English names' first three letters; 0 and 7 are Sunday. `@yearly`,
//! `@monthly`, `@weekly`, `@daily`, `@midnight` and `@hourly` are short for the obvious. When both day fields are
//! restricted (anything but a bare `*`), a day counts if either names it.
//!
//! Daylight saving: a time of day that the clocks skip fires at the first instant after the gap, once; one that they repeat
//! fires the first time only. An expression that recurs within the day (a `*` in its minute or hour) means real time
//! instead: it keeps its rhythm through a repeated hour, and what would fall into a gap is left out.
//!
//! The search is the `cron` crate's, behind this adapter: by itself it counts weekdays from 1 = Sunday, joins the day
//! fields by "and", and wants a field of seconds.

use chrono::{DateTime, Duration, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use std::collections::BTreeSet;
use std::str::FromStr;

/// A parsed expression.
#[derive(Debug, Clone)]
pub struct Cron {
    /// One, or two where either day field is enough.
    schedules: Vec<cron::Schedule>,
    /// Whether it recurs within the day.
    recurs: bool,
}

struct Field {
    name: &'static str,
    least: u32,
    most: u32,
    /// Names of the values from `least` on.
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", least: 0, most: 59, names: &[] };
const HOUR: Field = Field { name: "hour", least: 0, most: 23, names: &[] };
const DAY: Field = Field { name: "day of month", least: 1, most: 31, names: &[] };
const MONTH: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAY: Field =
    Field { name: "day of week", least: 0, most: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// The expression, or what is wrong with it: the field and why.
pub fn parse(expression: &str) -> Result<Cron, String> {
    let text = expression.trim();
    let text = if text.starts_with('@') { nickname(text)? } else { text };
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        return Err(format!(
            "'{text}' has {} fields; cron has five: minute, hour, day of month, month, day of week",
            fields.len()
        ));
    };
    let minutes = MINUTE.read(minute)?;
    let hours = HOUR.read(hour)?;
    let days = DAY.read(day)?;
    let months = MONTH.read(month)?;
    // Sunday is both 0 and 7 to us; the crate counts from 1 = Sunday.
    let weekdays: BTreeSet<u32> = WEEKDAY.read(weekday)?.into_iter().map(|d| d % 7 + 1).collect();
    let (by_day, by_weekday) = (day != "*", weekday != "*");
    if by_day && !by_weekday && !months.iter().any(|m| days.iter().any(|d| *d <= longest(*m))) {
        return Err(format!("'{text}' names a day that never comes"));
    }
    let line = |days: &str, weekdays: &str| {
        let text = format!("0 {} {} {days} {} {weekdays}", list(&minutes, 60), list(&hours, 24), list(&months, 12));
        cron::Schedule::from_str(&text).map_err(|e| format!("'{expression}' cannot be read: {e}"))
    };
    let mut schedules = Vec::new();
    if by_day || !by_weekday {
        schedules.push(line(&list(&days, 31), "*")?);
    }
    if by_weekday {
        schedules.push(line("*", &list(&weekdays, 7))?);
    }
    Ok(Cron { schedules, recurs: minute.contains('*') || hour.contains('*') })
}

fn nickname(text: &str) -> Result<&'static str, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return Err(format!("'{text}' is not one of @yearly, @monthly, @weekly, @daily, @midnight, @hourly")),
    })
}

fn longest(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Values as the crate reads them; a full set has to be `*`, because the crate asks for that.
fn list(values: &BTreeSet<u32>, full: usize) -> String {
    if values.len() == full {
        return "*".to_owned();
    }
    values.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

impl Field {
    fn read(&self, text: &str) -> Result<BTreeSet<u32>, String> {
        let mut values = BTreeSet::new();
        for part in text.split(',') {
            values.extend(self.part(part)?);
        }
        Ok(values)
    }

    fn part(&self, part: &str) -> Result<Vec<u32>, String> {
        let wrong = |why: String| format!("{}: {why}", self.name);
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            Some((from, to)) => {
                let from = self.value(from)?;
                (from, self.end(from, to)?)
            }
            None if step.is_some() => {
                return Err(wrong(format!("'{part}': a step needs '*' or a range, such as '{range}-{}/…'", self.most)));
            }
            None => (self.value(range)?, self.value(range)?),
        };
        if from > to {
            return Err(wrong(format!("'{part}': the range ends before it begins")));
        }
        let step = match step {
            None => 1,
            Some(text) => number(text)
                .filter(|n| (1..=self.most).contains(n))
                .ok_or_else(|| wrong(format!("'{part}': the step must be a number from 1 to {}", self.most)))?,
        };
        Ok((from..=to).step_by(step as usize).collect())
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        let named = self.names.iter().position(|name| *name == lower).and_then(|i| u32::try_from(i).ok());
        let value = named.map(|i| i + self.least).or_else(|| number(text));
        value.filter(|n| (self.least..=self.most).contains(n)).ok_or_else(|| {
            let names = if self.names.is_empty() { String::new() } else { format!(" or {}", self.names.join(", ")) };
            format!("{}: '{text}' is not a number from {} to {}{names}", self.name, self.least, self.most)
        })
    }

    /// A range's end: there Sunday comes after Saturday, unless the range began with Sunday.
    fn end(&self, from: u32, text: &str) -> Result<u32, String> {
        let value = self.value(text)?;
        Ok(if self.most == 7 && value == 0 && from > 0 { 7 } else { value })
    }
}

/// Digits only: `parse` would also take a sign.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

impl Cron {
    /// The first instant after `epoch_ms` at which it fires in the zone, in epoch milliseconds.
    pub fn next_after(&self, epoch_ms: i64, tz: Tz) -> Option<i64> {
        let after = DateTime::from_timestamp_millis(epoch_ms)?;
        // A minute is the finest time there is, so a part of a second counts as passed.
        let mut start = Clock::at(after, tz);
        let mut from = start.local;
        // Each round ends at one change of the clocks; nothing waits for a hundred years of them.
        for _ in 0..400 {
            let wanted = self.next_local(from)?;
            let fires = start.instant_of(wanted);
            match start.first_change(fires) {
                None if self.recurs || first_of(tz, wanted) == Some(fires) => return Some(fires.timestamp_millis()),
                None => from = wanted,
                Some(changed) => {
                    let next = Clock::at(changed, tz);
                    // What the clocks skipped is made up for at once, unless it recurs anyway.
                    if !self.recurs && wanted < next.local {
                        return Some(changed.timestamp_millis());
                    }
                    // The changed clock's first instant may itself be due.
                    from = next.local - Duration::milliseconds(1);
                    start = next;
                }
            }
        }
        None
    }

    /// The last instant in `(after_ms, until_ms]` at which it fires in the zone, in epoch milliseconds.
    pub fn latest_in(&self, after_ms: i64, until_ms: i64, tz: Tz) -> Option<i64> {
        let next = |ms: i64| self.next_after(ms, tz).filter(|found| *found <= until_ms);
        let mut latest = next(after_ms)?;
        // "Does it fire again before the end?" is true up to some instant and false from there on, so halving finds it,
        // where stepping through a long outage of a schedule for every minute would take seconds.
        let mut end = until_ms;
        while end > latest {
            let middle = latest + (end - latest) / 2;
            match next(middle) {
                Some(found) => latest = found,
                None if middle == latest => break,
                None => end = middle,
            }
        }
        Some(latest)
    }

    /// The first matching reading of a clock on the wall after `local`.
    fn next_local(&self, local: NaiveDateTime) -> Option<NaiveDateTime> {
        // Each schedule is asked as if the wall's clock were UTC, which knows no gaps.
        let next = |s: &cron::Schedule| s.after(&local.and_utc()).next();
        self.schedules.iter().filter_map(next).min().map(|found| found.naive_utc())
    }
}

/// When the clocks of a zone first show `local`.
fn first_of(tz: Tz, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    tz.from_local_datetime(&local).earliest().map(|found| found.with_timezone(&Utc))
}

/// A zone's clock from an instant on, for as long as its offset stays.
struct Clock {
    tz: Tz,
    since: DateTime<Utc>,
    local: NaiveDateTime,
    offset: Duration,
}

impl Clock {
    fn at(since: DateTime<Utc>, tz: Tz) -> Self {
        let offset = Self::offset(tz, since);
        Self { tz, since, local: since.naive_utc() + offset, offset }
    }

    fn offset(tz: Tz, at: DateTime<Utc>) -> Duration {
        Duration::seconds(i64::from(tz.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()))
    }

    fn instant_of(&self, local: NaiveDateTime) -> DateTime<Utc> {
        (local - self.offset).and_utc()
    }

    /// The first instant up to `until` with another offset.
    fn first_change(&self, until: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut same = self.since;
        while same < until {
            // No zone has changed its clocks twice within some hours.
            let probe = (same + Duration::hours(6)).min(until);
            if Self::offset(self.tz, probe) != self.offset {
                return Some(self.narrow(same, probe));
            }
            same = probe;
        }
        None
    }

    fn narrow(&self, mut same: DateTime<Utc>, mut changed: DateTime<Utc>) -> DateTime<Utc> {
        while changed - same > Duration::milliseconds(1) {
            let middle = same + (changed - same) / 2;
            if Self::offset(self.tz, middle) == self.offset {
                same = middle;
            } else {
                changed = middle;
            }
        }
        changed
    }
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
