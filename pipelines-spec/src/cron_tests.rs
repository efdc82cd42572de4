//! Clock times against a calendar, and against another implementation.

use super::*;
use insta::assert_snapshot;
use proptest::prelude::*;

fn ms(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
}

/// The next `count` firings as the zone's clocks show them.
fn next(expression: &str, tz: Tz, after: &str, count: usize) -> String {
    let cron = parse(expression).unwrap();
    let mut at = ms(after);
    let mut lines = Vec::new();
    for _ in 0..count {
        let Some(found) = cron.next_after(at, tz) else {
            lines.push("never".to_owned());
            break;
        };
        assert!(found > at, "time goes on");
        at = found;
        lines.push(tz.timestamp_millis_opt(at).unwrap().format("%a %F %R %z").to_string());
    }
    lines.join("\n")
}

#[test]
fn fields_mean_what_posix_says() {
    let start = "2026-01-01T00:00:00Z";
    assert_snapshot!(next("0 3 * * 1-5", Tz::Europe__Berlin, start, 3), @"
    Thu 2026-01-01 03:00 +0100
    Fri 2026-01-02 03:00 +0100
    Mon 2026-01-05 03:00 +0100
    ");
    assert_snapshot!(next("0 0 * * 7", Tz::UTC, start, 1), @"Sun 2026-01-04 00:00 +0000");
    assert_snapshot!(next("0 0 * * 0-0", Tz::UTC, start, 2), @"
    Sun 2026-01-04 00:00 +0000
    Sun 2026-01-11 00:00 +0000
    ");
    assert_snapshot!(next("0 0 * * sat-sun", Tz::UTC, start, 2), @"
    Sat 2026-01-03 00:00 +0000
    Sun 2026-01-04 00:00 +0000
    ");
    assert_snapshot!(next("0 0 13 * 5", Tz::UTC, start, 3), @"
    Fri 2026-01-02 00:00 +0000
    Fri 2026-01-09 00:00 +0000
    Tue 2026-01-13 00:00 +0000
    ");
    assert_snapshot!(next("*/20 8-9 1 jan,JUL *", Tz::UTC, start, 7), @"
    Thu 2026-01-01 08:00 +0000
    Thu 2026-01-01 08:20 +0000
    Thu 2026-01-01 08:40 +0000
    Thu 2026-01-01 09:00 +0000
    Thu 2026-01-01 09:20 +0000
    Thu 2026-01-01 09:40 +0000
    Wed 2026-07-01 08:00 +0000
    ");
    assert_snapshot!(next("0 0 29 2 *", Tz::UTC, start, 2), @"
    Tue 2028-02-29 00:00 +0000
    Sun 2032-02-29 00:00 +0000
    ");
    assert_snapshot!(next("* * * * *", Tz::UTC, "2026-01-01T00:00:30Z", 1), @"Thu 2026-01-01 00:01 +0000");
}

#[test]
fn nicknames() {
    let start = "2026-05-06T07:08:09Z";
    for (name, expected) in [
        ("@yearly", "Fri 2027-01-01 00:00 +0000"),
        ("@monthly", "Mon 2026-06-01 00:00 +0000"),
        ("@weekly", "Sun 2026-05-10 00:00 +0000"),
        ("@daily", "Thu 2026-05-07 00:00 +0000"),
        ("@hourly", "Wed 2026-05-06 08:00 +0000"),
    ] {
        assert_eq!(next(name, Tz::UTC, start, 1), expected, "{name}");
    }
}

#[test]
fn a_skipped_time_runs_at_the_next_valid_one() {
    let before_the_gap = "2026-03-07T12:00:00Z";
    assert_snapshot!(next("30 2 * * *", Tz::America__New_York, before_the_gap, 2), @"
    Sun 2026-03-08 03:00 -0400
    Mon 2026-03-09 02:30 -0400
    ");
    assert_snapshot!(next("0,30 2,3 * * *", Tz::America__New_York, "2026-03-08T06:00:00Z", 3), @"
    Sun 2026-03-08 03:00 -0400
    Sun 2026-03-08 03:30 -0400
    Mon 2026-03-09 02:00 -0400
    ");
    assert_snapshot!(next("*/30 * * * *", Tz::America__New_York, "2026-03-08T06:00:00Z", 3), @"
    Sun 2026-03-08 01:30 -0500
    Sun 2026-03-08 03:00 -0400
    Sun 2026-03-08 03:30 -0400
    ");
}

#[test]
fn a_repeated_time_runs_once_and_a_rhythm_goes_on() {
    let before = "2026-11-01T04:59:00Z";
    assert_snapshot!(next("30 1 * * *", Tz::America__New_York, before, 2), @"
    Sun 2026-11-01 01:30 -0400
    Mon 2026-11-02 01:30 -0500
    ");
    assert_snapshot!(next("*/30 * * * *", Tz::America__New_York, before, 5), @"
    Sun 2026-11-01 01:00 -0400
    Sun 2026-11-01 01:30 -0400
    Sun 2026-11-01 01:00 -0500
    Sun 2026-11-01 01:30 -0500
    Sun 2026-11-01 02:00 -0500
    ");
}

#[test]
fn a_whole_day_that_never_was() {
    assert_snapshot!(next("0 12 * * *", Tz::Pacific__Apia, "2011-12-29T12:00:00Z", 3), @"
    Thu 2011-12-29 12:00 -1000
    Sat 2011-12-31 00:00 +1400
    Sat 2011-12-31 12:00 +1400
    ");
}

#[test]
fn what_is_wrong_is_said_with_the_field() {
    let said = |text: &str| parse(text).map(|_| ()).unwrap_err();
    assert_snapshot!(said("0 3 * *"), @"'0 3 * *' has 4 fields; cron has five: minute, hour, day of month, month, day of week");
    assert_snapshot!(said("60 * * * *"), @"minute: '60' is not a number from 0 to 59");
    assert_snapshot!(said("5/15 * * * *"), @"minute: '5/15': a step needs '*' or a range, such as '5-59/…'");
    assert_snapshot!(said("* * * * Monday"), @"day of week: 'Monday' is not a number from 0 to 7 or sun, mon, tue, wed, thu, fri, sat");
    assert_snapshot!(said("* * * * 5-1"), @"day of week: '5-1': the range ends before it begins");
    assert_snapshot!(said("*/0 * * * *"), @"minute: '*/0': the step must be a number from 1 to 59");
    assert_snapshot!(said("0 0 31 2 *"), @"'0 0 31 2 *' names a day that never comes");
    assert_snapshot!(said("@reboot"), @"'@reboot' is not one of @yearly, @monthly, @weekly, @daily, @midnight, @hourly");
    for bad in ["", "1, * * * *", "+1 * * * *", "* * L * *", "* * ? * *", "* * * * 5#2", "-1 * * * *"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

/// One field: `*`, a step, a number, a range or a list.
fn field(least: u32, most: u32) -> impl Strategy<Value = String> {
    let value = least..=most;
    prop_oneof![
        3 => Just("*".to_owned()),
        1 => (1..=most).prop_map(|n| format!("*/{n}")),
        2 => value.clone().prop_map(|n| n.to_string()),
        1 => (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (value.clone(), value.clone(), 1..=most).prop_map(|(a, b, n)| format!("{}-{}/{n}", a.min(b), a.max(b))),
        1 => (value.clone(), value.clone(), value).prop_map(|(a, b, c)| format!("{a},{b},{c}")),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    (field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7))
        .prop_map(|(m, h, d, mo, w)| format!("{m} {h} {d} {mo} {w}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn in_utc_it_says_what_croner_says(expression in expression(), start in 946_684_800i64..2_524_608_000) {
        let ours = parse(&expression).unwrap();
        let theirs = croner::Cron::from_str(&expression).unwrap();
        let mut at = DateTime::from_timestamp(start, 0).unwrap();
        for _ in 0..8 {
            let expected = theirs.find_next_occurrence(&at, false).unwrap();
            prop_assert_eq!(ours.next_after(at.timestamp_millis(), Tz::UTC), Some(expected.timestamp_millis()));
            at = expected;
        }
    }

    /// Zones differ in their gaps; single times and plain rhythms are where both agree on what should happen.
    #[test]
    fn in_other_zones_too(
        minute in 0u32..60, hour in 0u32..24, rhythm: bool, start in 1_577_836_800i64..1_893_456_000,
        zone in proptest::sample::select(vec!["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Sao_Paulo"]),
    ) {
        let tz: Tz = zone.parse().unwrap();
        let expression = if rhythm { "*/15 * * * *".to_owned() } else { format!("{minute} {hour} * * *") };
        let ours = parse(&expression).unwrap();
        let theirs = croner::Cron::from_str(&expression).unwrap();
        let mut at = DateTime::from_timestamp(start, 0).unwrap().with_timezone(&tz);
        for _ in 0..200 {
            let expected = theirs.find_next_occurrence(&at, false).unwrap();
            prop_assert_eq!(ours.next_after(at.timestamp_millis(), tz), Some(expected.timestamp_millis()));
            at = expected;
        }
    }

    #[test]
    fn nothing_panics(text in ".{0,24}") {
        let _ = parse(&text);
    }
}
