//! What is wrong with each of the stores.

macro_rules! faults {
    ($($(#[$what:meta])* $fault:ident: $($rule:ident),*;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault {
            AlwaysFails,
            NeverAnswers,
            $($(#[$what])* $fault,)*
        }

        /// Each fault with the rules that it was made for.
        pub(crate) const ALL: &[(Fault, &str)] =
            &[$($((Fault::$fault, stringify!($rule)),)*)*];
    };
}

faults! {
    InventsSessions: an_unknown_key_is_no_session;
    TakesBytesForText: what_is_created_is_loaded;
    LosesEmptyTexts: what_is_created_is_loaded;
    /// As a store whose table has a limit.
    CutsAfter512Fields: several_hundred_fields_are_one_session;
    CreatesOverWhatIsThere: a_taken_key_is_refused;
    DeletesAllSessions: sessions_do_not_mix;
    RemovesNothing: an_update_changes_what_it_names;
    SetsWhatIsIncremented: an_update_changes_what_it_names;
    RevivesOnUpdate: an_update_of_no_session_writes_nothing;
    StopsHalfWay: an_impossible_increment_changes_nothing;
    TakesAnyTextForANumber: an_impossible_increment_changes_nothing;
    FailsWithTheWrongKind: an_impossible_increment_changes_nothing, a_renewal_with_an_impossible_increment_changes_nothing;
    KeepsEmptySessions: the_last_field_takes_the_session_with_it, a_renewal_can_remove_the_last_field;
    DeletesNothing: a_deleted_session_is_gone;
    KnowsWhatWas: what_is_known_is_what_is_stored;
    NeverRefreshes: a_load_refreshes_where_it_is_told_to;
    AlwaysRefreshes: a_load_refreshes_where_it_is_told_to;
    RefreshesInSecret: a_load_refreshes_where_it_is_told_to;
    RefreshesWhatIsNotDue: a_load_refreshes_only_what_is_due;
    SkipsEmptyUpdates: an_update_refreshes;
    DropsOwnTimeout: an_own_expiry_is_kept;
    AnswersTheExpiryThatWasSet: an_own_expiry_is_kept;
    TakesOwnTimeoutOnlyOnce: an_own_expiry_can_be_changed;
    NeverEnds: a_session_ends_by_itself;
    EndsByTheLayersTimeout: a_session_ends_after_its_own_idle_timeout;
    UpdateResetsAge: the_absolute_end_is_never_put_off;
    IgnoresAbsoluteEnd: nothing_lives_beyond_its_absolute_end;
    CountsIn32Bits: the_longest_timeouts_can_be_kept;
    LeavesTheOldKey: a_renewal_moves_the_session;
    RenewalDropsChanges: a_renewal_moves_the_session;
    RenewalResetsAge: a_renewal_keeps_age_and_own_expiry;
    RenewalDropsOwnTimeout: a_renewal_keeps_age_and_own_expiry;
    RenewsWhatIsNotThere: a_renewal_of_no_session_makes_none;
    RenewsOverWhatIsThere: a_renewal_to_a_taken_key_changes_nothing;
    MovesThenChanges: a_renewal_with_an_impossible_increment_changes_nothing;
    ForgetsReplacements: a_renewal_leaves_a_replacement_record;
    FollowsReplacements: a_renewal_leaves_a_replacement_record;
    TakesReplacedForGone: a_renewal_leaves_a_replacement_record;
    CreatesOverRecords: a_renewal_leaves_a_replacement_record;
    DeletesOnlyTheKey: a_deletion_follows_replacement_records;
    FollowsOneReplacement: a_deletion_follows_replacement_records;
    ReplacesNothing: a_replacement_takes_the_place_of_a_session;
    DeletesInsteadOfReplacing: a_replacement_takes_the_place_of_a_session;
    ReplacesOnlySessions: a_replacement_takes_the_place_of_an_unknown_key;
    ReplacesRecords: a_replacement_record_is_not_replaced;
    ReplacesWhatHasEnded: a_session_that_has_ended_is_not_replaced;
    RefusesToReplaceWithTheWrongKind: a_session_that_has_ended_is_not_replaced;
    KeepsRecordsForEver: a_replacement_record_ends;
    SaysThatItReplacedARecord: a_replacement_record_is_not_replaced;
    TakesNothingAway: a_field_is_taken_once;
    KeepsWhatIsEmptied: the_last_field_that_is_taken_takes_the_session_with_it;
    TakesFromSuccessors: nothing_is_taken_from_no_session;
    LooksThenTakes: parallel_takes_give_a_field_to_one;
    TakesAllForAlive: a_session_lives_until_it_ends;
    TakesRenewedForEnded: a_renewed_session_lives_on_under_its_new_key;
    LivesOnInAnother: a_session_does_not_live_on_in_the_one_that_took_its_place;
    RefreshesWhatIsAskedFor: asking_whether_a_session_lives_refreshes_nothing;
    LooksThenReplaces: a_replacement_beside_a_renewal_leaves_one_record;
    WritesWholeSessions: parallel_updates_are_all_kept;
    AddsInTwoSteps: parallel_increments_all_count;
    LooksThenCreates: parallel_creations_of_one_key_make_one_session;
    CopiesThenDeletes: parallel_renewals_make_one_session, an_update_beside_a_renewal_is_kept_or_replaced;
    LooksThenWrites: an_update_beside_a_deletion_revives_nothing;
    LooksThenEmpties: an_update_beside_the_removal_of_the_last_field_revives_nothing;
    LeavesACopy: a_renewal_beside_a_deletion_leaves_no_session;
    WritesBackWhatItLoads: a_load_beside_a_write_undoes_nothing;
    WritesFieldByField: a_dropped_update_is_done_or_not;
    /// As one whose writes wait in a queue.
    FailsAndWritesLater: what_was_reported_as_failed_does_not_happen_later;
    /// As one whose writes are tasks of their own.
    IsDroppedAndWritesLater: what_was_reported_as_failed_does_not_happen_later;
}
