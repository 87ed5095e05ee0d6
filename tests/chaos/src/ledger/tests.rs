//! The ledger finds what it is there for.

use super::*;

fn contents(note: &str, count: i64) -> Contents {
    let text = (!note.is_empty()).then(|| note.to_owned());
    let mut notes = [const { None }; LANES];
    notes[0] = text;
    Contents {
        user: "ada".to_owned(),
        notes,
        count,
        strange: Vec::new(),
    }
}

fn read(note: &str, count: i64) -> (Action, Outcome) {
    (Action::Read, Outcome::Read(contents(note, count)))
}

fn write(note: &str, outcome: Outcome) -> (Action, Outcome) {
    let text = (!note.is_empty()).then(|| note.to_owned());
    (Action::Write(0, text), outcome)
}

fn add(outcome: Outcome) -> (Action, Outcome) {
    (Action::Add, outcome)
}

/// Enters rounds, all of which must hold but the last; what that breaks.
#[track_caller]
fn last_of(rounds: &[&[(Action, Outcome)]]) -> Vec<&'static str> {
    let mut session = Session::new("ada".to_owned());
    let (last, before) = rounds.split_last().unwrap();
    for round in before {
        assert_eq!(session.enter(round), []);
    }
    session.enter(last).iter().map(|found| found.what).collect()
}

use Outcome::{Added, Refused, Written};

const LOST: &str = "an acknowledged write is lost";
const LATE: &str = "a write that was refused came late";

#[test]
fn what_was_acknowledged_must_be_there() {
    assert_eq!(last_of(&[&[write("a", Written)], &[read("a", 0)]]), [""; 0]);
    assert_eq!(last_of(&[&[write("a", Written)], &[read("", 0)]]), [LOST]);
    let rounds: [&[_]; 3] = [
        &[write("a", Written)],
        &[write("b", Written)],
        &[read("a", 0)],
    ];
    assert_eq!(last_of(&rounds), [LOST]);
    let rounds: [&[_]; 3] = [
        &[write("a", Written)],
        &[write("", Written)],
        &[read("a", 0)],
    ];
    assert_eq!(last_of(&rounds), [LOST], "a removal");
}

#[test]
fn what_was_refused_is_there_or_not_and_stays_so() {
    for seen in ["", "a"] {
        let rounds: [&[_]; 3] = [&[write("a", Refused)], &[read(seen, 0)], &[read(seen, 0)]];
        assert_eq!(last_of(&rounds), [""; 0]);
    }
    let rounds: [&[_]; 3] = [&[write("a", Refused)], &[read("", 0)], &[read("a", 0)]];
    assert_eq!(last_of(&rounds), [LATE]);
    let rounds: [&[_]; 3] = [
        &[write("a", Refused)],
        &[write("b", Written)],
        &[read("a", 0)],
    ];
    assert_eq!(last_of(&rounds), [LATE]);
    let rounds: [&[_]; 4] = [
        &[write("a", Written)],
        &[write("", Refused)],
        &[read("a", 0)],
        &[read("", 0)],
    ];
    assert_eq!(last_of(&rounds), [LATE], "a removal");
    let rounds: [&[_]; 2] = [&[write("a", Refused)], &[read("", 0), read("a", 0)]];
    assert_eq!(last_of(&rounds), [LATE], "between two looks at once");
}

#[test]
fn a_look_at_the_same_time_may_see_either() {
    for seen in ["a", "b"] {
        let rounds: [&[_]; 3] = [
            &[write("a", Written)],
            &[write("b", Written), read(seen, 0)],
            &[read("b", 0)],
        ];
        assert_eq!(last_of(&rounds), [""; 0]);
    }
    let rounds: [&[_]; 2] = [&[write("a", Written)], &[write("b", Refused), read("", 0)]];
    assert_eq!(last_of(&rounds), [LOST]);
    let rounds: [&[_]; 3] = [
        &[write("a", Written)],
        &[write("b", Refused), read("b", 0)],
        &[read("a", 0)],
    ];
    assert_eq!(last_of(&rounds), [LOST], "it was seen to have happened");
}

#[test]
fn additions_count_once() {
    let lost = "an acknowledged addition is lost";
    let twice = "an addition counts twice, or one that was refused came late";
    let both = [add(Added(0)), add(Added(1))];
    assert_eq!(last_of(&[&both, &[read("", 2)]]), [""; 0]);
    assert_eq!(last_of(&[&both, &[read("", 1)]]), [lost]);
    assert_eq!(last_of(&[&both, &[read("", 3)]]), [twice]);
    let one = [add(Added(0)), add(Refused)];
    for count in [1, 2] {
        assert_eq!(last_of(&[&one, &[read("", count)]]), [""; 0]);
    }
    assert_eq!(last_of(&[&one, &[read("", 0)]]), [lost]);
    assert_eq!(last_of(&[&one, &[read("", 1)], &[read("", 2)]]), [twice]);
    assert_eq!(last_of(&[&one, &[read("", 2)], &[read("", 1)]]), [lost]);
    let late = "an addition that was refused came late";
    assert_eq!(last_of(&[&one, &[read("", 1), read("", 2)]]), [late]);
    assert_eq!(last_of(&[&[add(Added(0)), read("", 2)]]), [twice]);
}

#[test]
fn a_session_is_its_user_s() {
    let mut other = contents("", 0);
    other.user = "zoe".to_owned();
    let round = [(Action::Read, Outcome::Read(other))];
    assert_eq!(last_of(&[&round]), ["somebody else's session"]);
    let strange = Contents::of([("role".to_owned(), "admin".to_owned())].into());
    assert_eq!(strange.strange, ["role=admin"]);
}
