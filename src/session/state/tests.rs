//! What a handler does while a `save` that it does not wait for is under way, and what becomes of the cookie. The model
//! test does the rest.

use bytes::Bytes;

use super::*;
use crate::{
    MemoryStore, SessionLayer,
    error::ErrorKind,
    store::{Fields, Record, SessionExpiry, SessionKey, Write, Written},
};

const LEFT: Duration = Duration::from_secs(900);

fn no_cookie() -> State {
    State::new(Presented::Nothing)
}

fn config(persistent: bool, clear_unknown: bool) -> Config {
    let builder = SessionLayer::builder(MemoryStore::new());
    let builder = builder.persistent(persistent).clear_unknown(clear_unknown);
    builder
        .build()
        .expect("a layer")
        .into_config()
        .expect("its only clone")
}

/// What the client is told by a layer with these settings.
fn told(state: &State, persistent: bool, clear_unknown: bool) -> CookieAction {
    state.cookie(&config(persistent, clear_unknown), true)
}

fn record() -> Record {
    let fields = Fields::from([(Bytes::from("user"), Bytes::from("ada"))]);
    Record::new(fields, LEFT)
}

/// The request brought this session.
fn found(id: SessionId) -> State {
    let mut state = State::new(Presented::One(id.into()));
    state.found(Found::One(id, record()));
    state
}

/// The request brought several live sessions.
fn ambiguous() -> (State, Vec<SessionId>) {
    let ids = vec![SessionId::random(), SessionId::random()];
    let mut state = State::new(Presented::Several(
        ids.iter().copied().map(Into::into).collect(),
    ));
    state.found(Found::Ambiguous { live: ids.clone() });
    (state, ids)
}

fn unavailable() -> State {
    let mut state = State::new(Presented::One(SessionId::random().into()));
    state.unavailable(Error::new(ErrorKind::Timeout, "no answer"));
    state
}

fn set(state: &mut State, name: &str, text: &'static str) {
    let set = state.data.set(name, Bytes::from(text), 1000);
    assert!(set.is_ok());
}

fn created(write: Option<Write>) -> Option<SessionKey> {
    match write {
        Some(Write::Create(key, _)) => Some(key),
        _ => None,
    }
}

fn key(id: Option<SessionId>) -> Option<SessionKey> {
    id.map(|id| id.key())
}

fn kept() -> Result<Written, Error> {
    Ok(Written::Kept {
        time_to_live: LEFT,
        expiry: SessionExpiry::Default,
    })
}

fn failed() -> Result<Written, Error> {
    Err(Error::new(ErrorKind::Timeout, "no answer"))
}

/// The ids whose place a new session is to take.
fn replaced(state: &State) -> Vec<SessionId> {
    let pending = state.pending_replacements().into_iter();
    pending.map(|replacement| replacement.old).collect()
}

/// The request brought the id of a session that another request has given a new one.
fn late(id: SessionId) -> State {
    let mut state = State::new(Presented::One(id.into()));
    state.found(Found::Replaced(id));
    state
}

#[test]
fn the_id_is_known_while_the_session_is_created() {
    let mut state = no_cookie();
    set(&mut state, "a", "1");
    let write = created(state.begin(false));
    let id = state.id();
    assert!(id.is_some() && key(id) == write);
    state.end(&kept());
    assert_eq!(state.id(), id);
    assert_eq!(
        Some(told(&state, false, false)),
        id.map(|id| CookieAction::Set { id, max_age: None })
    );
}

#[test]
fn a_renewal_is_kept_for_after_the_write_under_way() {
    let first = SessionId::random();
    let mut state = found(first);
    set(&mut state, "a", "1");
    state.begin(false);
    state.renew();
    let renewed = state.id();
    state.end(&kept());
    assert!(state.is_pending());
    assert_eq!(state.id(), renewed);
    let is_renewal = |write, from, to| match write {
        Some(Write::Renew { old, new, .. }) => (Some(old), Some(new)) == (from, to),
        _ => false,
    };
    assert!(is_renewal(
        state.begin(false),
        Some(first.key()),
        key(renewed)
    ));

    let mut state = no_cookie();
    set(&mut state, "a", "1");
    let first = created(state.begin(false));
    state.renew();
    let renewed = key(state.id());
    state.end(&kept());
    assert!(is_renewal(state.begin(false), first, renewed));
}

#[test]
fn a_session_that_is_destroyed_while_it_is_written_does_not_survive() {
    for written in [kept(), failed(), Ok(Written::Gone)] {
        let mut state = no_cookie();
        set(&mut state, "a", "1");
        state.begin(false);
        let id = state.id();
        state.destroy();
        assert_eq!(state.id(), None);
        assert!(
            state.is_pending(),
            "the end of the write must be waited for"
        );
        state.end(&written);
        assert_eq!(state.pending_deletes(), Vec::from_iter(id), "{written:?}");
        assert!(state.begin(false).is_none());
        assert_eq!(told(&state, false, true), CookieAction::Nothing);
    }

    let id = SessionId::random();
    let mut state = found(id);
    set(&mut state, "a", "1");
    state.begin(false);
    state.destroy();
    state.end(&kept());
    assert_eq!(state.pending_deletes(), [id]);
    assert!(state.begin(false).is_none());
    state.deleted(id);
    assert!(!state.is_pending());
    assert_eq!(told(&state, false, false), CookieAction::Clear);
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
    let pending = state.pending_deletes();
    assert!(pending.contains(&old) && new.is_some_and(|new| pending.contains(&new)));
}

#[test]
fn what_is_started_after_a_destroyed_write_is_a_session_of_its_own() {
    let mut state = no_cookie();
    set(&mut state, "a", "1");
    state.begin(false);
    let first = state.id();
    state.destroy();
    set(&mut state, "b", "2");
    let second = state.id();
    assert_ne!(first, second);
    state.end(&kept());
    assert_eq!(created(state.begin(false)), key(second));
    state.end(&kept());
    // The first was not presented, but it may be stored by now, and somebody may have been told of it.
    assert_eq!(replaced(&state), Vec::from_iter(first));
    assert_eq!(state.pending_deletes(), []);
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
    let first = created(state.begin(false));
    state.end(&failed());
    let second = created(state.begin(false));
    assert!(second.is_some() && first != second);
}

#[test]
fn every_destroyed_session_is_ended_although_a_replacement_failed_before() {
    let first = SessionId::random();
    let mut state = found(first);
    state.destroy();
    set(&mut state, "a", "1");
    let second = state.id();
    state.begin(false);
    state.end(&kept());
    assert_eq!(replaced(&state), [first]);
    state.destroy();
    assert_eq!(state.pending_deletes(), Vec::from_iter(second));
    assert_eq!(
        replaced(&state),
        [first],
        "which ends the first, although it failed before"
    );
}

#[test]
fn of_several_live_sessions_all_are_ended_once_a_new_one_is_stored_or_one_is_destroyed() {
    let (mut state, ids) = ambiguous();
    assert!(!state.is_pending());
    assert_eq!(told(&state, false, true), CookieAction::Nothing);
    set(&mut state, "a", "1");
    state.begin(false);
    assert!(
        !state.must_delete(),
        "nothing is ended for a login that may fail"
    );
    state.end(&failed());
    assert!(!state.must_delete());
    state.begin(false);
    state.end(&kept());
    assert_eq!(replaced(&state), ids);
    assert!(state.pending_replacements().iter().all(|it| it.live));

    let (mut state, ids) = ambiguous();
    state.destroy();
    assert_eq!(state.pending_deletes(), ids);
    assert_eq!(told(&state, false, false), CookieAction::Clear);
}

#[test]
fn a_cookie_of_no_live_session_is_cleared_only_by_destroy_or_where_the_layer_says_so() {
    let unknown = || State::new(Presented::One(SessionId::random().into()));
    assert_eq!(told(&unknown(), false, false), CookieAction::Nothing);
    assert_eq!(told(&unknown(), false, true), CookieAction::Clear);
    let mut destroyed = unknown();
    destroyed.destroy();
    assert_eq!(told(&destroyed, false, false), CookieAction::Clear);

    let mut nothing = no_cookie();
    nothing.destroy();
    assert_eq!(told(&nothing, false, true), CookieAction::Nothing);

    // It went away while the request ran: the client may have another cookie by now.
    let mut gone = found(SessionId::random());
    set(&mut gone, "a", "1");
    gone.begin(false);
    gone.end(&Ok(Written::Gone));
    assert_eq!(told(&gone, false, true), CookieAction::Nothing);
    let mut lost = found(SessionId::random());
    lost.lost(None);
    assert_eq!(told(&lost, false, true), CookieAction::Nothing);
}

#[test]
fn what_is_not_there_cannot_be_taken_from_a_session_that_could_not_be_loaded() {
    let mut state = unavailable();
    assert_eq!(state.data.remove("notice"), None);
    assert!(state.refusal().is_none());
    set(&mut state, "a", "1");
    assert!(state.refusal().is_some());
    state.data.remove("a");
    assert!(state.refusal().is_none(), "it is as it was");
}

#[test]
fn what_was_asked_of_a_session_that_could_not_be_loaded_is_refused_also_after_a_reload() {
    let asked: [fn(&mut State); 3] = [State::destroy, State::renew, State::clear];
    for ask in asked {
        let mut state = unavailable();
        ask(&mut state);
        assert!(state.refusal().is_some());
        state.found(Found::One(SessionId::random(), record()));
        assert!(state.refusal().is_some());
    }
    // A request that failed wanted nothing any more, but for a logout.
    let refused = asked.map(|ask| {
        let mut state = unavailable();
        ask(&mut state);
        state.drop_changes();
        state.refusal().is_some()
    });
    assert_eq!(refused, [true, false, false]);
}

#[test]
fn nothing_is_written_to_a_session_that_is_gone() {
    let mut state = found(SessionId::random());
    set(&mut state, "a", "1");
    state.begin(false);
    state.end(&Ok(Written::Gone));
    assert!(state.data.is_empty() && state.id().is_none());
    set(&mut state, "b", "2");
    assert!(!state.is_pending() && state.begin(true).is_none());
    let refused = state.may_save().err();
    assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::Gone));
}

#[test]
fn a_reload_behind_a_store_that_panicked_keeps_what_was_to_be_saved() {
    let id = SessionId::random();
    let mut state = found(id);
    set(&mut state, "a", "1");
    state.begin(false);
    assert!(matches!(state.begin_reload(), Reload::Load(loaded) if loaded == id));
    state
        .data
        .replace_stored(record().fields, Default::default());
    assert!(state.is_pending());
    assert_eq!(state.data.get("a"), Some(Bytes::from("1")));
}

#[test]
fn a_session_that_is_destroyed_once_it_is_loaded_is_destroyed() {
    let mut state = unavailable();
    state.destroy();
    state.found(Found::One(SessionId::random(), record()));
    state.destroy();
    assert!(state.refusal().is_none() && state.must_delete());
    assert_eq!(told(&state, false, false), CookieAction::Clear);
}

#[test]
fn what_a_late_request_merely_writes_is_dropped() {
    let id = SessionId::random();
    let mut state = late(id);
    assert_eq!(state.lookup, Lookup::NotFound);
    assert_eq!(state.drop_late_changes(), None, "it wrote nothing");
    set(&mut state, "a", "1");
    assert!(state.id().is_none() && state.begin(true).is_none() && !state.is_pending());
    assert_eq!(state.drop_late_changes(), Some(id.key()));
    assert!(state.data.is_empty());
    assert_eq!(told(&state, true, true), CookieAction::Nothing);
}

#[test]
fn a_late_request_that_renews_or_destroys_starts_a_session_in_the_place_of_what_it_presented() {
    let asks: [fn(&mut State); 2] = [State::renew, State::destroy];
    for (ask, is_logout) in asks.into_iter().zip([false, true]) {
        let id = SessionId::random();
        let mut state = late(id);
        ask(&mut state);
        assert_eq!(state.is_pending(), is_logout, "a logout ends the successor");
        assert_eq!(
            told(&state, false, true),
            match is_logout {
                true => CookieAction::Clear,
                false => CookieAction::Nothing,
            }
        );
        set(&mut state, "user", "ada");
        let new = created(state.begin(false));
        assert!(new.is_some());
        state.end(&kept());
        let pending = state.pending_replacements();
        assert!(
            matches!(pending[..], [it] if it.old == id && Some(it.new.key()) == new && !it.live)
        );
        assert!(!state.must_delete(), "the successor lives");
    }
}

#[test]
fn a_reload_finds_that_the_session_was_replaced() {
    let id = SessionId::random();
    let mut state = found(id);
    set(&mut state, "a", "1");
    state.lost(Some(id));
    assert_eq!(state.lookup, Lookup::NotFound);
    set(&mut state, "b", "2");
    assert_eq!(state.drop_late_changes(), Some(id.key()));
}

#[test]
fn a_new_session_takes_the_place_of_what_was_presented_once() {
    let (unknown, other) = (SessionId::random(), SessionId::random());
    let mut state = State::new(Presented::Several(vec![unknown.into(), other.into()]));
    state.found(Found::Nothing);
    set(&mut state, "a", "1");
    state.begin(false);
    let first = state.id();
    state.end(&kept());
    assert_eq!(replaced(&state), [unknown, other]);
    assert!(state.pending_replacements().iter().all(|it| !it.live));
    for done in state.pending_replacements() {
        assert!(state.is_pending());
        state.replaced(done);
    }
    assert!(!state.is_pending());
    // And another one the place of the first.
    state.destroy();
    set(&mut state, "b", "2");
    state.begin(false);
    state.end(&kept());
    assert_eq!(replaced(&state), Vec::from_iter(first));
    assert!(state.pending_replacements().iter().all(|it| it.live));
}

#[test]
fn what_the_request_itself_has_deleted_need_not_be_alive_to_be_replaced() {
    for deleted in [false, true] {
        let id = SessionId::random();
        let mut state = found(id);
        state.destroy();
        // A `save`.
        assert_eq!(state.pending_deletes(), [id]);
        if deleted {
            state.deleted(id);
        }
        set(&mut state, "user", "ada");
        state.begin(false);
        state.end(&kept());
        let pending = state.pending_replacements();
        assert!(matches!(pending[..], [it] if it.old == id && !it.live));
    }
}

#[test]
fn a_login_whose_session_has_gone_is_an_error_until_somebody_is_told() {
    let renewed = |written| {
        let mut state = found(SessionId::random());
        state.renew();
        state.begin(false);
        state.end(&Ok(written));
        state
    };
    assert!(renewed(Written::Replaced).lost_login().is_none());
    let mut state = renewed(Written::Gone);
    assert!(state.refusal().is_some());
    assert_eq!(told(&state, true, true), CookieAction::Nothing);
    state.gone_is_told();
    assert!(state.refusal().is_none());
    // The response says by itself that it failed.
    let mut state = renewed(Written::Gone);
    state.drop_changes();
    assert!(state.refusal().is_none());

    let old = SessionId::random();
    let mut state = found(old);
    state.destroy();
    set(&mut state, "user", "ada");
    state.begin(false);
    state.end(&kept());
    let void = state.pending_replacements();
    assert!(matches!(void[..], [it] if it.old == old && it.live));
    let new = void.iter().map(|it| it.new).collect::<Vec<_>>();
    void.into_iter().for_each(|it| state.replaced_nothing(it));
    assert_eq!(state.pending_deletes(), new);
    assert_eq!(replaced(&state), []);
    assert!(state.lost_login().is_some() && state.data.is_empty());
    assert_eq!(
        state.saved_cookie(&config(false, false)),
        CookieAction::Nothing
    );
}
