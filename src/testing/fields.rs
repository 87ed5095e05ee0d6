//! The rules about what is stored.

use bytes::Bytes;

use super::subject::{Checked, MINUTE, Subject, Write, changed, changes, key, made, minute, set};
use crate::{
    error::ErrorKind,
    store::{Change, Changes, SessionExpiry, SessionStore, Written},
};

pub(super) async fn an_unknown_key_is_no_session(it: &Subject<impl SessionStore>) -> Checked {
    it.absent(key(), minute()).await
}

/// Names and texts are bytes, and mean nothing to a store.
pub(super) async fn what_is_created_is_loaded(it: &Subject<impl SessionStore>) -> Checked {
    let odd: [(&[u8], &[u8]); 16] = [
        (b"user", b"abdullah"),
        (b"User", b"another field"),
        (b"empty", b""),
        (b"", b"the name is empty"),
        (b"3", b"3"),
        (b"03", b"not the same as 3"),
        (b"zero\0", b"\0a\0"),
        (b"\xff\xfe", b"\xc3\x28 is no UTF-8"),
        ("日本語".as_bytes(), "こんにちは".as_bytes()),
        ("é".as_bytes(), b"composed"),
        ("e\u{301}".as_bytes(), b"decomposed"),
        (b"\"quoted\"", b"it's \\ \"quoted\"\r\n"),
        (b" space ", b"  "),
        (b"../up", b"%2e%2e/ ${HOME} {0} $1 ?"),
        (b"'; DROP TABLE sessions; --", b"null"),
        (b"__proto__", b"{\"a\":1}"),
    ];
    let odd = odd.map(|(name, text)| (Bytes::from_static(name), Bytes::from_static(text)));
    let long: Bytes = (0..=u8::MAX).cycle().take(64 * 1024).collect();
    let all: Changes = (odd.into_iter())
        .chain([("64 KiB".into(), long)])
        .map(|(name, text)| (name, Change::Set(text)))
        .collect();
    let key = key();
    it.kept(Write::Create(key), &all, minute()).await?;
    let fields = made(&all)?;
    let record = it.holds(key, &fields).await?;
    it.own_expiry(&record, SessionExpiry::Default)?;
    let record = it.found(key, true, minute()).await?;
    if record.fields != fields {
        return it.broken("the same fields with refresh as without");
    }
    Ok(())
}

pub(super) async fn several_hundred_fields_are_one_session(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let name = |number: usize| Bytes::from(format!("field {number}"));
    let text = |number: usize| Change::Set(number.to_string().into());
    let all: Changes = (0..600).map(|at| (name(at), text(at))).collect();
    let key = key();
    it.kept(Write::Create(key), &all, minute()).await?;
    let fields = made(&all)?;
    it.holds(key, &fields).await?;

    let others: Changes = (0..1200)
        .map(|at| match at % 3 {
            0 => (name(at), Change::Remove),
            1 => (name(at), Change::Increment(1000)),
            _ => (name(at), text(at + 1)),
        })
        .collect();
    it.kept(Write::Update(key), &others, minute()).await?;
    it.holds(key, &changed(&fields, &others)?).await?;
    Ok(())
}

pub(super) async fn a_taken_key_is_refused(it: &Subject<impl SessionStore>) -> Checked {
    let (key, first) = (key(), changes([set("a", "first")]));
    let own = MINUTE * 2;
    let first = first.with_expiry(SessionExpiry::Browser(own));
    it.kept(Write::Create(key), &first, minute()).await?;
    let second = changes([set("a", "second"), set("b", "second")]);
    it.refused(Write::Create(key), &second, minute()).await?;
    let record = it.holds(key, &made(&first)?).await?;
    it.own_expiry(&record, SessionExpiry::Browser(own))
}

pub(super) async fn sessions_do_not_mix(it: &Subject<impl SessionStore>) -> Checked {
    let (one, other) = (key(), key());
    let (a, b) = (changes([set("a", "1")]), changes([set("b", "2")]));
    it.kept(Write::Create(one), &a, minute()).await?;
    it.kept(Write::Create(other), &b, minute()).await?;
    it.holds(one, &made(&a)?).await?;
    let more = changes([set("c", "3")]);
    it.kept(Write::Update(one), &more, minute()).await?;
    it.holds(other, &made(&b)?).await?;
    it.delete(one).await?;
    it.holds(other, &made(&b)?).await?;
    Ok(())
}

pub(super) async fn an_update_changes_what_it_names(it: &Subject<impl SessionStore>) -> Checked {
    let created = changes([
        set("kept", "as it is"),
        set("set", "before"),
        set("removed", "before"),
        set("visits", "41"),
        set("least", "-9223372036854775807"),
    ]);
    let all = changes([
        set("set", "after"),
        set("new", "after"),
        ("removed", Change::Remove),
        ("never there", Change::Remove),
        ("visits", Change::Increment(1)),
        ("least", Change::Increment(-1)),
        ("absent counts as 0", Change::Increment(-7)),
        ("greatest", Change::Increment(i64::MAX)),
    ]);
    let key = key();
    it.kept(Write::Create(key), &created, minute()).await?;
    it.kept(Write::Update(key), &all, minute()).await?;
    let fields = changed(&made(&created)?, &all)?;
    it.holds(key, &fields).await?;
    // What an increment has made is a number for the next one.
    let again = changes([("visits", Change::Increment(-50))]);
    it.kept(Write::Update(key), &again, minute()).await?;
    it.holds(key, &changed(&fields, &again)?).await?;
    Ok(())
}

pub(super) async fn an_update_of_no_session_writes_nothing(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let (never, deleted) = (key(), key());
    let created = changes([set("a", "1")]);
    it.kept(Write::Create(deleted), &created, minute()).await?;
    it.delete(deleted).await?;
    let some = changes([set("a", "2"), ("n", Change::Increment(1))]);
    let own = Changes::new().with_expiry(SessionExpiry::Browser(MINUTE));
    for key in [never, deleted] {
        for changes in [&some, &own, &Changes::new()] {
            let update = Write::Update(key);
            it.answers(Written::Gone, update, changes, minute()).await?;
            it.absent(key, minute()).await?;
        }
    }
    Ok(())
}

/// All or nothing: the possible changes are not made either.
pub(super) async fn an_impossible_increment_changes_nothing(
    it: &Subject<impl SessionStore>,
) -> Checked {
    use ErrorKind::{NotAnInteger, Overflow};
    for (stored, by, kind) in [
        ("text", 1, NotAnInteger),
        ("", 1, NotAnInteger),
        ("1.0", 1, NotAnInteger),
        (" 1", 1, NotAnInteger),
        // Not as an increment would have written it.
        ("+1", 1, NotAnInteger),
        ("01", 1, NotAnInteger),
        ("-0", 1, NotAnInteger),
        ("9223372036854775808", -1, NotAnInteger),
        ("9223372036854775807", 1, Overflow),
        ("-9223372036854775808", -1, Overflow),
    ] {
        let (it, key) = (it.again(), key());
        let created = changes([
            set("a", "1"),
            set("m", stored),
            set("n", "1"),
            set("z", "1"),
        ]);
        it.kept(Write::Create(key), &created, minute()).await?;
        let all = changes([
            set("a", "2"),
            set("b", "2"),
            ("c", Change::Increment(1)),
            ("m", Change::Increment(by)),
            ("n", Change::Increment(1)),
            ("z", Change::Remove),
        ]);
        let all = all.with_expiry(SessionExpiry::Browser(MINUTE * 2));
        let error = it.refused(Write::Update(key), &all, minute()).await?;
        if error.kind() != kind {
            return it.broken(format_args!("an error of the kind {kind:?}"));
        }
        let record = it.holds(key, &made(&created)?).await?;
        it.own_expiry(&record, SessionExpiry::Default)?;
    }
    Ok(())
}

pub(super) async fn the_last_field_takes_the_session_with_it(
    it: &Subject<impl SessionStore>,
) -> Checked {
    let key = key();
    let two = changes([set("a", "1"), set("b", "2")]).with_expiry(SessionExpiry::Browser(MINUTE));
    it.kept(Write::Create(key), &two, minute()).await?;
    let replaced = changes([("a", Change::Remove), ("b", Change::Remove), set("c", "3")]);
    it.kept(Write::Update(key), &replaced, minute()).await?;
    let last = changes([("c", Change::Remove), ("d", Change::Remove)]);
    let update = Write::Update(key);
    it.answers(Written::Emptied, update, &last, minute())
        .await?;
    it.absent(key, minute()).await?;
    it.answers(Written::Gone, update, &two, minute()).await?;
    it.absent(key, minute()).await
}

pub(super) async fn a_deleted_session_is_gone(it: &Subject<impl SessionStore>) -> Checked {
    let (old, new) = (key(), key());
    let some = changes([set("a", "1")]);
    it.delete(old).await?;
    it.kept(Write::Create(old), &some, minute()).await?;
    it.delete(old).await?;
    it.absent(old, minute()).await?;
    for write in [Write::Update(old), Write::Renew(old, new)] {
        it.answers(Written::Gone, write, &some, minute()).await?;
    }
    it.delete(old).await?;
    it.absent(old, minute()).await?;
    it.absent(new, minute()).await
}

pub(super) async fn what_is_known_is_what_is_stored(it: &Subject<impl SessionStore>) -> Checked {
    let (old, new) = (key(), key());
    let create = changes([set("a", "1")]);
    let update = changes([set("a", "2")]).with_expiry(SessionExpiry::Browser(MINUTE * 2));
    let renew = changes([set("a", "3")]);
    for (write, changes) in [
        (Write::Create(old), create),
        (Write::Update(old), update),
        (Write::Renew(old, new), renew),
    ] {
        it.kept(write, &changes, minute()).await?;
        let key = match write {
            Write::Renew(..) => new,
            _ => old,
        };
        let stored = it.found(key, false, minute()).await?;
        it.knows(key, Some(&stored), minute())?;
        // Now the store may know the session.
        it.found(key, true, minute()).await?;
        it.knows(key, Some(&stored), minute())?;
    }
    it.knows(old, None, minute())?;
    it.delete(new).await?;
    it.knows(new, None, minute())
}
