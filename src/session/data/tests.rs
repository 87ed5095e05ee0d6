use super::*;

const LIMIT: usize = 1000;

fn data(fields: &[(&str, &str)]) -> Data {
    let fields = fields.iter().map(|(name, text)| (bytes(name), bytes(text)));
    let mut data = Data::default();
    data.replace_stored(fields.collect(), SessionExpiry::Default);
    data
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn pending(data: &Data) -> Vec<(String, Change)> {
    let fields = data.pending.fields();
    let mut pending: Vec<_> = fields
        .map(|(name, change)| (String::from_utf8_lossy(name).into_owned(), change.clone()))
        .collect();
    pending.sort_by(|a, b| a.0.cmp(&b.0));
    pending
}

fn set(text: &str) -> Change {
    Change::Set(bytes(text))
}

#[test]
fn setting_a_field_to_what_it_has_is_no_change() {
    let mut data = data(&[("a", "1")]);
    assert!(data.set("a", bytes("1"), LIMIT).is_ok());
    assert!(!data.is_changed());
    assert!(data.set("a", bytes("2"), LIMIT).is_ok());
    assert_eq!(pending(&data), [("a".into(), set("2"))]);
    assert!(data.set("a", bytes("1"), LIMIT).is_ok());
    assert!(!data.is_changed(), "back to what is stored");
}

#[test]
fn setting_a_counter_to_the_sum_it_has_leaves_it_an_increment() {
    let mut data = data(&[("n", "1")]);
    assert_eq!(data.increment("n", 1, LIMIT).ok(), Some(2));
    assert!(data.set("n", bytes("2"), LIMIT).is_ok());
    assert_eq!(pending(&data), [("n".into(), Change::Increment(1))]);
}

#[test]
fn removing_what_is_not_there_is_no_change() {
    let mut data = data(&[("a", "1")]);
    assert_eq!(data.remove("b"), None);
    assert!(data.set("b", bytes("2"), LIMIT).is_ok());
    assert_eq!(data.remove("b"), Some(bytes("2")));
    assert!(!data.is_changed());
    assert_eq!(data.remove("a"), Some(bytes("1")));
    assert!(data.is_empty());
    assert_eq!(pending(&data), [("a".into(), Change::Remove)]);
}

#[test]
fn increments_add_up_and_keep_to_the_form_of_redis() {
    let mut data = data(&[
        ("n", "40"),
        ("text", "x"),
        ("zero", "007"),
        ("max", "9223372036854775807"),
    ]);
    assert_eq!(data.increment("n", 1, LIMIT).ok(), Some(41));
    assert_eq!(data.increment("n", 1, LIMIT).ok(), Some(42));
    assert_eq!(data.get("n"), Some(bytes("42")));
    assert_eq!(data.increment("new", 0, LIMIT).ok(), Some(0));
    let kind = |result: Result<i64, Error>| result.err().map(|error| error.kind());
    assert_eq!(
        kind(data.increment("text", 1, LIMIT)),
        Some(ErrorKind::NotAnInteger)
    );
    assert_eq!(
        kind(data.increment("zero", 1, LIMIT)),
        Some(ErrorKind::NotAnInteger)
    );
    assert_eq!(
        kind(data.increment("max", 1, LIMIT)),
        Some(ErrorKind::Overflow)
    );
    assert_eq!(
        kind(data.increment("@n", 1, LIMIT)),
        Some(ErrorKind::ReservedField)
    );
    assert_eq!(
        pending(&data),
        [
            ("n".into(), Change::Increment(2)),
            ("new".into(), Change::Increment(0))
        ]
    );
    assert_eq!(data.increment("n", -2, LIMIT).ok(), Some(40));
    assert_eq!(pending(&data), [("new".into(), Change::Increment(0))]);
}

#[test]
fn an_increment_of_the_requests_own_value_is_a_value() {
    let mut data = data(&[("a", "1"), ("b", "1")]);
    assert!(data.set("a", bytes("10"), LIMIT).is_ok());
    assert_eq!(data.increment("a", 1, LIMIT).ok(), Some(11));
    data.remove("b");
    assert_eq!(data.increment("b", 3, LIMIT).ok(), Some(3));
    assert_eq!(
        pending(&data),
        [("a".into(), set("11")), ("b".into(), set("3"))]
    );
}

#[test]
fn clear_removes_what_is_stored_and_forgets_what_was_set() {
    let mut data = data(&[("a", "1"), ("b", "2")]);
    assert!(data.set("c", bytes("3"), LIMIT).is_ok());
    data.clear();
    assert!(data.is_empty());
    assert_eq!(data.entries().count(), 0);
    let removed = |name: &str| (name.into(), Change::Remove);
    assert_eq!(pending(&data), [removed("a"), removed("b")]);
}

#[test]
fn a_session_over_the_limit_is_refused_and_as_before_but_may_shrink() {
    let mut small = data(&[("a", "1234")]);
    let error = small.set("b", bytes("123456"), 10).err();
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::TooLarge));
    assert!(!small.is_changed() && small.get("b").is_none());
    assert!(small.set("b", bytes("1234"), 10).is_ok());
    assert!(small.increment("c", 1, 10).is_err());

    let mut large = data(&[("a", "123456789012")]);
    assert!(large.set("a", bytes("12345678901"), 10).is_ok());
    assert!(large.set("a", bytes("1234567890123"), 10).is_err());
    large.remove("a");
    assert!(large.set("b", bytes("123456789"), 10).is_ok());
}

#[test]
fn a_failed_write_leaves_every_change_pending() {
    let mut data = data(&[("n", "1"), ("gone", "x")]);
    assert!(data.increment("n", 1, LIMIT).is_ok());
    assert!(data.set("a", bytes("1"), LIMIT).is_ok());
    data.remove("gone");
    let first = data.begin_write();
    assert_eq!(first.fields().count(), 3);
    assert!(!data.is_changed());

    assert_eq!(data.increment("n", 1, LIMIT).ok(), Some(3));
    assert_eq!(data.increment("a", 1, LIMIT).ok(), Some(2));
    assert_eq!(data.increment("gone", 5, LIMIT).ok(), Some(5));
    data.not_written(true);
    assert_eq!(
        pending(&data),
        [
            ("a".into(), set("2")),
            ("gone".into(), set("5")),
            ("n".into(), Change::Increment(2))
        ]
    );
    assert_eq!(data.get("n"), Some(bytes("3")));
}

#[test]
fn what_changes_during_a_write_is_counted_from_what_was_written() {
    let mut data = data(&[("a", "1"), ("b", "1")]);
    assert!(data.set("a", bytes("2"), LIMIT).is_ok());
    data.remove("b");
    data.begin_write();
    assert!(data.set("a", bytes("1"), LIMIT).is_ok());
    assert!(data.set("b", bytes("1"), LIMIT).is_ok());
    data.written();
    assert_eq!(
        pending(&data),
        [("a".into(), set("1")), ("b".into(), set("1"))]
    );
    let seen: Vec<_> = data
        .entries()
        .map(|(name, text)| (name.clone(), text))
        .collect();
    assert_eq!(seen, [(bytes("a"), bytes("1")), (bytes("b"), bytes("1"))]);
}

#[test]
fn a_new_session_is_written_as_plain_values() {
    let mut data = Data::default();
    assert!(data.increment("n", 3, LIMIT).is_ok());
    assert!(data.set("a", bytes("x"), LIMIT).is_ok());
    let changes = data.begin_create();
    let all: Vec<_> = changes.fields().map(|(_, change)| change.clone()).collect();
    assert_eq!(
        all,
        [set("3"), set("x")],
        "in the order in which they were made"
    );
}

#[test]
fn after_a_failed_write_setting_back_is_written_since_nobody_knows_what_is_stored() {
    let mut known = data(&[("a", "x"), ("b", "x")]);
    assert!(known.set("a", bytes("y"), LIMIT).is_ok());
    assert!(known.set("new", bytes("y"), LIMIT).is_ok());
    known.begin_write();
    known.not_written(false);
    assert!(known.set("a", bytes("x"), LIMIT).is_ok());
    known.remove("new");
    assert_eq!(
        pending(&known),
        [("a".into(), set("x")), ("new".into(), Change::Remove)]
    );
    known.begin_write();
    known.written();
    assert!(known.set("a", bytes("x"), LIMIT).is_ok());
    assert!(!known.is_changed(), "now it is known");
}

#[test]
fn increments_that_together_leave_64_bits_are_refused_also_while_the_first_is_written() {
    let mut data = data(&[("n", "-1")]);
    assert!(data.increment("n", i64::MAX, LIMIT).is_ok());
    data.begin_write();
    // The sum, as this request sees it, has room; the two increments as one would not.
    let refused = data.increment("n", 1, LIMIT).err();
    assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::Overflow));
    assert_eq!(data.get("n"), Some(bytes("9223372036854775806")));
    data.not_written(false);
    assert_eq!(pending(&data), [("n".into(), Change::Increment(i64::MAX))]);
}
