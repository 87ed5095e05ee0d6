//! For tests, with feature `test-util`: [`session_cookie`], a session for the tests of an app, and [`check_store`], the
//! suite that a store must pass.

use std::future::Future;

use self::subject::Subject;
use crate::store::SessionStore;

mod cookie;
mod ends;
mod fields;
mod parallel;
mod renewals;
mod replacements;
mod subject;
mod takes;
mod times;

pub use cookie::session_cookie;

/// Checks that a store keeps every rule of [`SessionStore`].
///
/// Each call of `make` gives the store for one rule. All may be clones on one database: every check makes sessions of
/// its own, under random keys. Some of them are left behind and end within minutes (one, in a hundred years), so do not
/// use the database of a site.
///
/// ```
/// use tower_redis_session::{MemoryStore, testing::check_store};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(async {
/// check_store(|| async { MemoryStore::new() }).await;
/// # });
/// ```
///
/// Call it in a runtime of several threads, as `#[tokio::test(flavor = "multi_thread")]` makes: some of the rules are about
/// requests that run at the same moment. It takes a few seconds, most of which it waits for sessions to end. A store that
/// uses tokio's clock can be checked with a paused clock, which takes no time. Only then it is checked, too, that
/// replacement records end after their minute.
///
/// A store that serves sessions from a cache refreshes less often than it is told to, and so breaks rules about times.
/// Check it without its cache.
///
/// # Panics
///
/// Where the store breaks rules. The message names each of them, and says what was done, what the store answered and what
/// was expected.
pub async fn check_store<S, F>(make: impl Fn() -> F)
where
    S: SessionStore,
    F: Future<Output = S>,
{
    let mut broken = Vec::new();
    macro_rules! check {
        ($($group:ident { $($rule:ident,)* })*) => {$($(
            let subject = Subject::new(make().await);
            // Boxed, and made in a function of its own: together they would need more stack than a thread of a test has.
            let checked = || Box::pin($group::$rule(&subject));
            if let Err(how) = checked().await {
                broken.push(format!("{}\n{how}\n", stringify!($rule)));
            }
        )*)*};
    }
    check! {
        fields {
            an_unknown_key_is_no_session,
            what_is_created_is_loaded,
            several_hundred_fields_are_one_session,
            a_taken_key_is_refused,
            sessions_do_not_mix,
            an_update_changes_what_it_names,
            an_update_of_no_session_writes_nothing,
            an_impossible_increment_changes_nothing,
            the_last_field_takes_the_session_with_it,
            a_deleted_session_is_gone,
            what_is_known_is_what_is_stored,
        }
        times {
            a_load_refreshes_where_it_is_told_to,
            a_load_refreshes_only_what_is_due,
            an_update_refreshes,
            an_own_expiry_is_kept,
            an_own_expiry_can_be_changed,
            a_session_ends_by_itself,
            a_session_ends_after_its_own_idle_timeout,
            the_absolute_end_is_never_put_off,
            nothing_lives_beyond_its_absolute_end,
            the_longest_timeouts_can_be_kept,
        }
        renewals {
            a_renewal_moves_the_session,
            a_renewal_keeps_age_and_own_expiry,
            a_renewal_of_no_session_makes_none,
            a_renewal_to_a_taken_key_changes_nothing,
            a_renewal_with_an_impossible_increment_changes_nothing,
            a_renewal_can_remove_the_last_field,
        }
        replacements {
            a_renewal_leaves_a_replacement_record,
            a_deletion_follows_replacement_records,
            a_replacement_takes_the_place_of_a_session,
            a_replacement_takes_the_place_of_an_unknown_key,
            a_replacement_record_is_not_replaced,
            a_session_that_has_ended_is_not_replaced,
            a_replacement_record_ends,
        }
        takes {
            a_field_is_taken_once,
            the_last_field_that_is_taken_takes_the_session_with_it,
            nothing_is_taken_from_no_session,
        }
        ends {
            a_session_lives_until_it_ends,
            a_renewed_session_lives_on_under_its_new_key,
            a_session_does_not_live_on_in_the_one_that_took_its_place,
            asking_whether_a_session_lives_refreshes_nothing,
        }
        parallel {
            parallel_updates_are_all_kept,
            parallel_increments_all_count,
            parallel_takes_give_a_field_to_one,
            parallel_creations_of_one_key_make_one_session,
            parallel_renewals_make_one_session,
            an_update_beside_a_renewal_is_kept_or_replaced,
            a_replacement_beside_a_renewal_leaves_one_record,
            an_update_beside_a_deletion_revives_nothing,
            an_update_beside_the_removal_of_the_last_field_revives_nothing,
            a_renewal_beside_a_deletion_leaves_no_session,
            a_load_beside_a_write_undoes_nothing,
            a_dropped_update_is_done_or_not,
            what_was_reported_as_failed_does_not_happen_later,
        }
    }
    assert!(
        broken.is_empty(),
        "the store breaks {} of the rules of `SessionStore`:\n\n{}",
        broken.len(),
        broken.join("\n")
    );
}
