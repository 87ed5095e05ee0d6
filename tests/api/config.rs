//! What `build` refuses, and what it must not.

use std::time::Duration;

use tower_redis_session::{
    ConfigError, Key, MemoryStore, OnStoreError, SameSite, SessionLayer, SessionLayerBuilder,
};

/// What `build` makes of a change to the defaults.
fn build(
    configure: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
) -> Result<(), ConfigError> {
    let builder = configure(SessionLayer::builder(MemoryStore::new()));
    builder.build().map(drop)
}

fn name(name: &str) -> Result<(), ConfigError> {
    build(|builder| builder.cookie_name(name))
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_cookie_name_must_be_a_token() {
    let bad = [
        "", " ", "a b", "a=b", "a;b", "a,b", "a\"b", "a(b)", "a@b", "a:b", "a\\b", "a/b", "a[b]",
        "a?b", "a{b}", "a<b>", "a\tb", "a\nb", "a\0b", "a\u{7f}b", "sesión",
    ];
    for bad in bad {
        assert_eq!(name(bad), Err(ConfigError::CookieName(bad.into())));
    }
    for good in [
        "a",
        "session_id",
        "SID",
        "a-b.c",
        "!#$%&'*+-.^_`|~09azAZ",
        "__Other-id",
    ] {
        assert_eq!(name(good), Ok(()), "{good}");
    }
}

#[test]
fn a_prefix_must_have_its_own_case() {
    for bad in [
        "__host-id",
        "__HOST-id",
        "__secure-id",
        "__Secure-id".to_lowercase().as_str(),
        "__hOST-",
    ] {
        assert_eq!(name(bad), Err(ConfigError::PrefixCase(bad.into())));
        // Whatever else is wrong with it.
        let insecure = build(|builder| builder.cookie_name(bad).secure(false));
        assert_eq!(insecure, Err(ConfigError::PrefixCase(bad.into())));
    }
    for good in [
        "__Host-id",
        "__Secure-id",
        "Host-id",
        "__host",
        "x__host-id",
        "__Host-",
    ] {
        assert_eq!(name(good), Ok(()), "{good}");
    }
}

#[test]
fn a_prefix_needs_secure() {
    for prefixed in ["__Host-id", "__Secure-id"] {
        let insecure = build(|builder| builder.cookie_name(prefixed).secure(false));
        assert_eq!(
            insecure,
            Err(ConfigError::PrefixWithoutSecure(prefixed.into()))
        );
    }
    assert_eq!(build(|builder| builder.secure(false)), Ok(()));
}

#[test]
fn a_host_cookie_has_no_domain() {
    let with = |name: &str| build(|builder| builder.cookie_name(name).cookie_domain("example.org"));
    assert_eq!(
        with("__Host-id"),
        Err(ConfigError::HostPrefixWithDomain("__Host-id".into()))
    );
    assert_eq!(with("__Secure-id"), Ok(()));
    assert_eq!(with("id"), Ok(()));
}

#[test]
fn a_host_cookie_has_the_path_of_the_whole_site() {
    let with =
        |name: &str, path: &str| build(|builder| builder.cookie_name(name).cookie_path(path));
    for path in ["/app", "//", "/ "] {
        assert_eq!(
            with("__Host-id", path),
            Err(ConfigError::HostPrefixWithPath("__Host-id".into()))
        );
    }
    assert_eq!(with("__Host-id", "/"), Ok(()));
    assert_eq!(with("__Secure-id", "/app"), Ok(()));
}

#[test]
fn same_site_none_needs_secure() {
    let with = |same_site, secure| build(|builder| builder.same_site(same_site).secure(secure));
    assert_eq!(
        with(SameSite::None, false),
        Err(ConfigError::SameSiteNoneWithoutSecure)
    );
    assert_eq!(with(SameSite::None, true), Ok(()));
    assert_eq!(with(SameSite::Lax, false), Ok(()));
    assert_eq!(with(SameSite::Strict, false), Ok(()));
}

#[test]
fn partitioned_needs_secure() {
    let with =
        |partitioned, secure| build(|builder| builder.partitioned(partitioned).secure(secure));
    assert_eq!(
        with(true, false),
        Err(ConfigError::PartitionedWithoutSecure)
    );
    assert_eq!(with(true, true), Ok(()));
    assert_eq!(with(false, false), Ok(()));
}

#[test]
fn a_domain_is_an_ascii_host_name_without_a_leading_dot() {
    let domain = |domain: &str| build(|builder| builder.cookie_domain(domain));
    for bad in [
        "",
        ".",
        ".example.org",
        "bücher.example",
        "a b",
        "a;b",
        "a\nb",
        "a,b",
        "http://a",
        "a/b",
        "a:80",
    ] {
        assert_eq!(domain(bad), Err(ConfigError::CookieDomain(bad.into())));
    }
    for good in [
        "example.org",
        "localhost",
        "xn--bcher-kva.example",
        "A.B",
        "127.0.0.1",
    ] {
        assert_eq!(domain(good), Ok(()), "{good}");
    }
}

#[test]
fn a_path_begins_with_a_slash_and_is_visible_ascii() {
    let path = |path: &str| build(|builder| builder.cookie_path(path));
    for bad in [
        "", "app", " /", "*", "/a;b", "/a\nb", "/a\0", "/ü", "/a\u{7f}",
    ] {
        assert_eq!(path(bad), Err(ConfigError::CookiePath(bad.into())));
    }
    for good in ["/", "/app", "/app/", "/%20", "/a=b,c\"~"] {
        assert_eq!(path(good), Ok(()), "{good}");
    }
}

#[test]
fn attributes_that_browsers_would_ignore_are_refused() {
    let path =
        |bytes: usize| build(|builder| builder.cookie_path(format!("/{}", "a".repeat(bytes - 1))));
    let domain = |bytes: usize| build(|builder| builder.cookie_domain("a".repeat(bytes)));
    let too_long = |attribute, bytes| Err(ConfigError::AttributeTooLong { attribute, bytes });
    assert_eq!(path(1024), Ok(()));
    assert_eq!(path(1025), too_long("path", 1025));
    assert_eq!(domain(1024), Ok(()));
    assert_eq!(domain(1025), too_long("domain", 1025));
    assert_eq!(name(&"a".repeat(4000)), Ok(()));
    assert_eq!(name(&"a".repeat(4001)), too_long("name", 4001));
}

#[test]
fn no_timeout_is_zero() {
    let zero = Duration::ZERO;
    assert_eq!(
        build(|b| b.idle_timeout(zero)),
        Err(ConfigError::ZeroIdleTimeout)
    );
    assert_eq!(
        build(|b| b.absolute_timeout(zero)),
        Err(ConfigError::ZeroAbsoluteTimeout)
    );
    assert_eq!(
        build(|b| b.store_timeout(zero)),
        Err(ConfigError::ZeroStoreTimeout)
    );
    // Zero is how the refresh interval says that each request refreshes.
    assert_eq!(build(|b| b.refresh_interval(zero)), Ok(()));
    let short = Duration::from_nanos(1);
    assert_eq!(
        build(|b| b
            .idle_timeout(short)
            .absolute_timeout(short)
            .store_timeout(short)),
        Ok(())
    );
    let long = Duration::MAX;
    assert_eq!(
        build(|b| b
            .idle_timeout(long)
            .absolute_timeout(long)
            .store_timeout(long)),
        Ok(())
    );
}

#[test]
fn an_absolute_timeout_is_not_shorter_than_the_idle_one() {
    let with = |idle, absolute| build(|b| b.absolute_timeout(absolute).idle_timeout(idle));
    assert_eq!(
        with(secs(900), secs(899)),
        Err(ConfigError::AbsoluteShorterThanIdle)
    );
    assert_eq!(with(secs(900), secs(900)), Ok(()));
    // The default of the idle timeout counts as well.
    assert_eq!(
        build(|b| b.absolute_timeout(secs(60))),
        Err(ConfigError::AbsoluteShorterThanIdle)
    );
}

#[test]
fn a_refresh_interval_is_not_longer_than_the_idle_timeout() {
    let with = |interval| build(|b| b.refresh_interval(interval));
    assert_eq!(with(secs(901)), Err(ConfigError::RefreshLongerThanIdle));
    assert_eq!(with(secs(900)), Ok(()));
}

#[test]
fn signed_cookies_need_a_key() {
    let keys = |number: u8| [Key::from(&[number; 64])];
    assert_eq!(
        build(|b| b.signing_keys([])),
        Err(ConfigError::NoSigningKey)
    );
    // Also where keys were given before.
    let emptied = build(|b| b.signing_keys(keys(1)).signing_keys(Vec::new()));
    assert_eq!(emptied, Err(ConfigError::NoSigningKey));
    assert_eq!(
        build(|b| b.accept_unsigned(true)),
        Err(ConfigError::AcceptUnsignedWithoutKeys)
    );
    assert_eq!(
        build(|b| b.send_unsigned(true)),
        Err(ConfigError::SendUnsignedWithoutKeys)
    );
    assert_eq!(
        build(|b| b.signing_keys(keys(1)).send_unsigned(true)),
        Err(ConfigError::SendUnsignedWithoutAcceptUnsigned)
    );
    for (accept, send) in [(false, false), (true, false), (true, true)] {
        let built = build(|b| {
            b.send_unsigned(send)
                .accept_unsigned(accept)
                .signing_keys(keys(1))
        });
        assert_eq!(built, Ok(()));
    }
    assert_eq!(
        build(|b| b.accept_unsigned(false).send_unsigned(false)),
        Ok(())
    );
}

#[test]
fn debug_shows_no_key() {
    let secret = b"a secret of 64 bytes, which nobody but the server is to know ...";
    let key = Key::from(secret);
    let builder = SessionLayer::builder(MemoryStore::new()).signing_keys([key]);
    let shown = format!("{builder:?}");
    let layer = builder.build().unwrap();
    let shown = format!("{shown} {layer:?} {layer:#?}");
    assert!(shown.contains("keys: 1"), "{shown}");
    // As text, or as numbers.
    for part in ["secret", "97, 32, 115", "6120"] {
        assert!(!shown.contains(part), "{shown}");
    }
}

#[test]
fn everything_at_once_is_accepted_where_nothing_contradicts() {
    let all = build(|builder| {
        builder
            .cookie_name("__Secure-id")
            .cookie_path("/app")
            .cookie_domain("example.org")
            .secure(true)
            .http_only(false)
            .same_site(SameSite::None)
            .partitioned(true)
            .persistent(true)
            .signing_keys([Key::generate(), Key::generate()])
            .accept_unsigned(true)
            .idle_timeout(secs(60))
            .absolute_timeout(secs(3600))
            .refresh_interval(secs(10))
            .lazy(true)
            .store_timeout(secs(5))
            .on_store_error(OnStoreError::Continue)
            .keep_changes(|_, _| true)
            .clear_unknown(true)
            .cache_headers(false)
            .max_session_bytes(0)
    });
    assert_eq!(all, Ok(()));
    // The defaults are sound, and `new` is them.
    assert_eq!(build(|builder| builder), Ok(()));
    let _: SessionLayer = SessionLayer::new(MemoryStore::new());
}

#[test]
fn every_refusal_says_what_is_wrong() {
    let refusals = [
        (name("a b").unwrap_err(), "\"a b\""),
        (name("__host-a").unwrap_err(), "`__Host-`"),
        (
            build(|b| b.cookie_name("__Host-a").secure(false)).unwrap_err(),
            "secure(true)",
        ),
        (
            build(|b| b.cookie_name("__Host-a").cookie_domain("a")).unwrap_err(),
            "domain",
        ),
        (
            build(|b| b.cookie_name("__Host-a").cookie_path("/a")).unwrap_err(),
            "path",
        ),
        (
            build(|b| b.same_site(SameSite::None).secure(false)).unwrap_err(),
            "SameSite=None",
        ),
        (
            build(|b| b.partitioned(true).secure(false)).unwrap_err(),
            "partitioned",
        ),
        (build(|b| b.cookie_domain(".a")).unwrap_err(), "\".a\""),
        (build(|b| b.cookie_path("a")).unwrap_err(), "\"a\""),
        (name(&"a".repeat(5000)).unwrap_err(), "5000"),
        (
            build(|b| b.idle_timeout(Duration::ZERO)).unwrap_err(),
            "idle_timeout",
        ),
        (
            build(|b| b.absolute_timeout(Duration::ZERO)).unwrap_err(),
            "absolute_timeout",
        ),
        (
            build(|b| b.store_timeout(Duration::ZERO)).unwrap_err(),
            "store_timeout",
        ),
        (
            build(|b| b.absolute_timeout(secs(1))).unwrap_err(),
            "shorter",
        ),
        (
            build(|b| b.refresh_interval(secs(1000))).unwrap_err(),
            "refresh_interval",
        ),
        (
            build(|b| b.signing_keys([])).unwrap_err(),
            "signing_keys is empty",
        ),
        (
            build(|b| b.accept_unsigned(true)).unwrap_err(),
            "accept_unsigned(true) needs signing_keys",
        ),
        (
            build(|b| b.send_unsigned(true)).unwrap_err(),
            "send_unsigned(true) needs signing_keys",
        ),
        (
            build(|b| b.signing_keys([Key::generate()]).send_unsigned(true)).unwrap_err(),
            "needs accept_unsigned(true)",
        ),
    ];
    for (error, part) in refusals {
        let text = error.to_string();
        assert!(text.contains(part), "{text}");
    }
}
