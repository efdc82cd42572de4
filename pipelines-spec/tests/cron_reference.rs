//! Clock times against two references: a slow one that walks minute by minute and can be read at a glance, in ten zones with
//! all their changes of the clocks from 2000 to 2037; and the crate `croner`, wherever the clocks do not change (across a
//! change it takes lists such as `1,2` for rhythms).
//!
//! The expressions are drawn from a fixed seed; the sets they mean are drawn with them, so nothing is read by what is tested.

use chrono::{DateTime, Datelike, Duration, NaiveDate, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use pipelines_spec::cron::parse;
use std::collections::BTreeSet;
use std::str::FromStr;

/// Whole and half hours of daylight saving, both hemispheres, changes one minute past midnight (St. John's), four changes a
/// year (Casablanca, around Ramadan), a day that was left out (Apia), an odd offset (Chatham), and none at all (Kolkata).
const ZONES: [&str; 10] = [
    "Europe/Berlin",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Kolkata",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
];

const DAY: i64 = 24 * 60;

/// Numbers that are the same every time (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    fn within(&mut self, low: u32, high: u32) -> u32 {
        low + u32::try_from(self.next() % u64::from(high - low + 1)).unwrap()
    }
}

/// One field: its text and what it means.
struct Field {
    text: String,
    values: BTreeSet<u32>,
}

fn field(random: &mut Random, low: u32, high: u32) -> Field {
    match random.within(0, 9) {
        0..=3 => Field { text: "*".into(), values: (low..=high).collect() },
        4 => {
            let step = random.within(1, high);
            Field { text: format!("*/{step}"), values: (low..=high).step_by(step as usize).collect() }
        }
        _ => {
            let parts: Vec<Field> = (0..random.within(1, 3)).map(|_| part(random, low, high)).collect();
            let text = parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(",");
            Field { text, values: parts.into_iter().flat_map(|part| part.values).collect() }
        }
    }
}

fn part(random: &mut Random, low: u32, high: u32) -> Field {
    let (a, b) = (random.within(low, high), random.within(low, high));
    let (a, b) = (a.min(b), a.max(b));
    match random.within(0, 3) {
        0 => Field { text: format!("{a}-{b}"), values: (a..=b).collect() },
        1 => {
            let step = random.within(1, high);
            Field { text: format!("{a}-{b}/{step}"), values: (a..=b).step_by(step as usize).collect() }
        }
        _ => Field { text: a.to_string(), values: BTreeSet::from([a]) },
    }
}

/// An expression, and what it means.
struct Expression {
    text: String,
    minutes: BTreeSet<u32>,
    hours: BTreeSet<u32>,
    days: BTreeSet<u32>,
    months: BTreeSet<u32>,
    /// 0 is Sunday.
    weekdays: BTreeSet<u32>,
    either_day: bool,
    recurs: bool,
}

fn expression(random: &mut Random) -> Expression {
    let [minute, hour, day, month, weekday] =
        [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)].map(|(low, high)| field(random, low, high));
    Expression {
        text: format!("{} {} {} {} {}", minute.text, hour.text, day.text, month.text, weekday.text),
        either_day: day.text != "*" && weekday.text != "*",
        recurs: minute.text.contains('*') || hour.text.contains('*'),
        minutes: minute.values,
        hours: hour.values,
        days: day.values,
        months: month.values,
        weekdays: weekday.values.into_iter().map(|day| day % 7).collect(),
    }
}

impl Expression {
    fn on(&self, date: NaiveDate) -> bool {
        let by_day = self.days.contains(&date.day());
        let by_weekday = self.weekdays.contains(&date.weekday().num_days_from_sunday());
        let day = if self.either_day { by_day || by_weekday } else { by_day && by_weekday };
        day && self.months.contains(&date.month())
    }

    /// Whether the clock on the wall means it, at a minute counted from 1970 by that clock.
    fn at(&self, wall: i64) -> bool {
        let of_day = u32::try_from(wall.rem_euclid(DAY)).unwrap();
        self.minutes.contains(&(of_day % 60)) && self.hours.contains(&(of_day / 60)) && self.on(date(wall))
    }
}

fn date(wall: i64) -> NaiveDate {
    NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + Duration::days(wall.div_euclid(DAY))
}

/// What the clocks of a zone show at a minute of UTC.
fn wall(tz: Tz, minute: i64) -> i64 {
    let utc = DateTime::from_timestamp(minute * 60, 0).unwrap().naive_utc();
    let offset = i64::from(tz.offset_from_utc_datetime(&utc).fix().local_minus_utc());
    minute + offset / 60
}

/// Every firing in `(from, until]`, at most `most`: minute by minute.
fn walk(expression: &Expression, tz: Tz, from: i64, until: i64, most: usize) -> Vec<i64> {
    let mut fires = vec![];
    // What is repeated is known from having been seen; no zone repeats more than a day.
    let mut minute = from - 2 * DAY;
    let mut before = wall(tz, minute - 1);
    let mut highest = before;
    while minute <= until && fires.len() < most {
        let quiet = wall(tz, minute) - minute;
        let day = if wall(tz, minute + DAY) - minute - DAY == quiet && before == highest && before + 1 == minute + quiet
        {
            // No change for a day: if its dates do not matter, nothing does.
            let dates = [date(minute + quiet), date(minute + quiet + DAY - 1)];
            if !dates.into_iter().any(|date| expression.on(date)) {
                before += DAY;
                highest = before;
                minute += DAY;
                continue;
            }
            Some(quiet)
        } else {
            None
        };
        for _ in 0..DAY {
            let now = day.map_or_else(|| wall(tz, minute), |offset| minute + offset);
            let first_time = now > highest;
            let due = if expression.recurs {
                expression.at(now)
            } else {
                (first_time && expression.at(now)) || (before + 1..now).any(|skipped| expression.at(skipped))
            };
            if due && minute > from && minute <= until && fires.len() < most {
                fires.push(minute);
            }
            (before, highest) = (now, highest.max(now));
            minute += 1;
        }
    }
    fires
}

fn minute_of(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp() / 60
}

fn shown(minute: i64, tz: Tz) -> String {
    tz.timestamp_opt(minute * 60, 0).unwrap().format("%a %F %R %z").to_string()
}

/// What is tested, in the same window.
fn ours(expression: &str, tz: Tz, from: i64, until: i64, most: usize) -> Vec<i64> {
    let cron = parse(expression).unwrap();
    let next = |at: i64| cron.next_after(at * 60_000, tz).map(|ms| ms / 60_000).filter(|at| *at <= until);
    std::iter::successors(next(from), |at| next(*at)).take(most).collect()
}

fn compare(expression: &Expression, tz: Tz, from: i64, until: i64, most: usize) -> usize {
    if parse(&expression.text).is_err_and(|why| why.contains("never comes")) {
        assert_eq!(walk(expression, tz, from, until, 1), Vec::<i64>::new(), "{}", expression.text);
        return 0;
    }
    let expected = walk(expression, tz, from, until, most);
    let found = ours(&expression.text, tz, from, until, most);
    let lines = |all: &[i64]| all.iter().map(|at| shown(*at, tz)).collect::<Vec<_>>().join("\n");
    assert_eq!(lines(&found), lines(&expected), "'{}' in {tz} from {}", expression.text, shown(from, tz));
    if from % 8 == 0 {
        look_back(&expression.text, tz, from, &expected);
    }
    expected.len()
}

/// Looking back finds what looking forward found.
fn look_back(expression: &str, tz: Tz, from: i64, fires: &[i64]) {
    let (Some(last), Ok(cron)) = (fires.last(), parse(expression)) else { return };
    for until in [*last, last - 1, (from + last) / 2] {
        let expected = fires.iter().rev().find(|at| **at <= until).map(|at| at * 60_000);
        assert_eq!(cron.latest_in(from * 60_000, until * 60_000, tz), expected, "'{expression}' in {tz} by {until}");
    }
}

/// The minutes at which a zone changes its clocks.
fn changes(tz: Tz) -> Vec<i64> {
    let offset = |minute: i64| wall(tz, minute) - minute;
    let mut found = vec![];
    let mut minute = minute_of("2000-01-01T00:00:00Z");
    while minute < minute_of("2038-01-01T00:00:00Z") {
        if offset(minute) != offset(minute + 360) {
            found.extend((minute + 1..=minute + 360).filter(|at| offset(*at) != offset(at - 1)));
        }
        minute += 360;
    }
    found
}

#[test]
fn around_every_change_of_the_clocks() {
    let mut random = Random(1);
    let (mut expressions, mut fires) = (0, 0);
    for zone in ZONES {
        let tz: Tz = zone.parse().unwrap();
        for change in changes(tz) {
            for _ in 0..4 {
                // Often so near that the change is met by what fires every minute.
                let ahead = if random.within(0, 1) == 0 { 100 } else { 2000 };
                let from = change - i64::from(random.within(1, ahead));
                let mut expression = expression(&mut random);
                if random.within(0, 1) == 0 {
                    // Every day, so that most of them have something to do with the change.
                    expression = every_day(expression);
                }
                fires += compare(&expression, tz, from, change + 2 * DAY, 150);
                expressions += 1;
            }
        }
    }
    assert!(expressions > 2000 && fires > 30_000, "{expressions} expressions, {fires} firings");
}

fn every_day(mut expression: Expression) -> Expression {
    let fields: Vec<&str> = expression.text.split(' ').collect();
    expression.text = format!("{} {} * * *", fields[0], fields[1]);
    (expression.days, expression.months, expression.weekdays) =
        ((1..=31).collect(), (1..=12).collect(), (0..7).collect());
    expression.either_day = false;
    expression
}

#[test]
fn over_years() {
    let mut random = Random(2);
    let (mut expressions, mut fires) = (0, 0);
    for zone in ZONES {
        let tz: Tz = zone.parse().unwrap();
        for _ in 0..100 {
            let year = random.within(2000, 2036);
            let from = minute_of(&format!("{year}-01-01T00:00:00Z")) + i64::from(random.within(0, 500_000));
            let expression = expression(&mut random);
            fires += compare(&expression, tz, from, from + 800 * DAY, 40);
            expressions += 1;
        }
    }
    assert!(expressions == 1000 && fires > 15_000, "{expressions} expressions, {fires} firings");
}

#[test]
fn as_croner_where_the_clocks_do_not_change() {
    let mut random = Random(3);
    let mut compared = 0;
    for zone in ZONES {
        let tz: Tz = zone.parse().unwrap();
        let changes = changes(tz);
        for _ in 0..200 {
            let expression = expression(&mut random);
            let Ok(cron) = parse(&expression.text) else { continue };
            let theirs = croner::Cron::from_str(&expression.text).unwrap();
            let year = random.within(2000, 2036);
            let mut at = minute_of(&format!("{year}-01-01T00:00:00Z")) + i64::from(random.within(0, 500_000));
            for _ in 0..12 {
                let Some(found) = cron.next_after(at * 60_000, tz).map(|ms| ms / 60_000) else { break };
                let begins = changes.partition_point(|change| change + 2 * DAY < at);
                if changes.get(begins).is_none_or(|change| change - 2 * DAY > found) {
                    let from: DateTime<Tz> = DateTime::<Utc>::from_timestamp(at * 60, 0).unwrap().with_timezone(&tz);
                    let expected = theirs.find_next_occurrence(&from, false).unwrap().timestamp() / 60;
                    assert_eq!(shown(found, tz), shown(expected, tz), "'{}' in {tz}", expression.text);
                    compared += 1;
                }
                at = found;
            }
        }
    }
    assert!(compared > 10_000, "{compared} compared");
}
