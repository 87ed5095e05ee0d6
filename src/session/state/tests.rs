//! What a handler does while a `save` that it does not wait for is under way. The model test does the rest.

use bytes::Bytes;

use super::*;
use crate::store::Record;

const LEFT: Duration = Duration::from_secs(900);

fn no_cookie() -> State {
    State::new(Presented::default())
}

/// The request brought this session.
fn found(id: SessionId) -> State {
    let mut state = State::new(Presented {
        any: true,
        ..Presented::default()
    });
    let fields = [(Bytes::from("user"), Bytes::from("ada"))].into();
    state.found(Found::One(id, Record::new(fields, LEFT)));
    state
}

fn set(state: &mut State, name: &str, text: &'static str) {
    let set = state.data.set(name, Bytes::from(text), 1000);
    assert!(set.is_ok());
}

fn created(plan: &Plan) -> Option<SessionId> {
    match plan.write {
        Some(Write::Create(id, _)) => Some(id),
        _ => None,
    }
}

fn kept() -> Result<Written, Error> {
    Ok(Written::Kept(LEFT))
}

fn failed() -> Result<Written, Error> {
    Err(Error::new(ErrorKind::Timeout, "no answer"))
}

#[test]
fn the_id_is_known_while_the_session_is_created() {
    let mut state = no_cookie();
    set(&mut state, "a", "1");
    let id = created(&state.begin(false));
    assert!(id.is_some());
    assert_eq!(state.id(), id);
    state.end(&kept());
    assert_eq!(state.id(), id);
    assert_eq!(
        state.cookie(false),
        CookieAction::Set(id.unwrap_or_else(SessionId::random), LEFT)
    );
}

#[test]
fn a_renewal_is_kept_for_after_the_write_under_way() {
    let old = SessionId::random();
    let mut state = found(old);
    set(&mut state, "a", "1");
    state.begin(false);
    state.renew();
    let new = state.id();
    state.end(&kept());
    assert!(state.is_pending());
    assert_eq!(state.id(), new);
    let plan = state.begin(false);
    assert!(
        matches!(plan.write, Some(Write::Renew(from, to, _)) if from == old && Some(to) == new)
    );

    let mut state = no_cookie();
    set(&mut state, "a", "1");
    let first = created(&state.begin(false));
    state.renew();
    state.end(&kept());
    let plan = state.begin(false);
    assert!(matches!(plan.write, Some(Write::Renew(from, _, _)) if Some(from) == first));
}

#[test]
fn a_session_that_is_destroyed_while_it_is_written_does_not_survive() {
    for written in [kept(), failed(), Ok(Written::Gone)] {
        let mut state = no_cookie();
        set(&mut state, "a", "1");
        let id = created(&state.begin(false));
        state.destroy();
        assert_eq!(state.id(), None);
        assert!(
            state.is_pending(),
            "the end of the write must be waited for"
        );
        state.end(&written);
        assert_eq!(state.begin(false).delete, Vec::from_iter(id), "{written:?}");
        assert_eq!(state.cookie(false), CookieAction::Nothing);
    }

    let id = SessionId::random();
    let mut state = found(id);
    set(&mut state, "a", "1");
    state.begin(false);
    state.destroy();
    state.end(&kept());
    let plan = state.begin(false);
    assert!(plan.delete.contains(&id) && plan.write.is_none());
    state.deleted(id);
    assert!(!state.is_pending());
    assert_eq!(state.cookie(false), CookieAction::Clear);
}

#[test]
fn a_session_that_is_destroyed_while_it_is_renewed_survives_under_neither_id() {
    let old = SessionId::random();
    let mut state = found(old);
    state.renew();
    let new = state.id();
    state.begin(false);
    state.destroy();
    state.end(&kept());
    let doomed = state.begin(false).delete;
    assert!(doomed.contains(&old) && Vec::from_iter(new).iter().all(|id| doomed.contains(id)));
}

#[test]
fn what_is_started_after_a_destroyed_write_is_a_session_of_its_own() {
    let mut state = no_cookie();
    set(&mut state, "a", "1");
    let first = created(&state.begin(false));
    state.destroy();
    set(&mut state, "b", "2");
    let second = state.id();
    assert_ne!(first, second);
    state.end(&kept());
    let plan = state.begin(false);
    assert_eq!(created(&plan), second);
    assert_eq!(plan.delete, Vec::from_iter(first));
}

#[test]
fn a_failed_renewal_is_tried_again_with_the_same_id_and_a_failed_creation_with_another() {
    let mut state = found(SessionId::random());
    state.renew();
    let new = state.id();
    state.begin(false);
    state.end(&failed());
    assert_eq!(state.id(), new);

    let mut state = no_cookie();
    set(&mut state, "a", "1");
    let first = created(&state.begin(false));
    state.end(&failed());
    let second = created(&state.begin(false));
    assert!(second.is_some() && first != second);
}

#[test]
fn every_destroyed_session_is_deleted_although_a_delete_failed_before() {
    let first = SessionId::random();
    let mut state = found(first);
    state.destroy();
    set(&mut state, "a", "1");
    let plan = state.begin(false);
    let second = created(&plan);
    state.end(&kept());
    state.destroy();
    let doomed = state.begin(false).delete;
    assert!(doomed.contains(&first) && Vec::from_iter(second).iter().all(|id| doomed.contains(id)));
}
