//! The guide: what does not fit on the first page. It is the folder `docs`.

/// A page of the folder `docs`. At its end it defines its links to other pages, as files. Here they lead to modules: of two
/// definitions of a link, the first counts.
macro_rules! page {
    ($file:literal) => {
        concat!(
            "[deploying]: crate::guide::deploying\n",
            "[faults]: crate::guide::faults\n",
            "[lose]: crate::guide::faults#what-redis-can-lose\n",
            "[oauth]: crate::guide::oauth\n",
            "[observability]: crate::guide::observability\n",
            "[performance]: crate::guide::performance\n",
            "[`RedisStore`]: crate::RedisStore\n\n",
            include_str!(concat!("../docs/", $file))
        )
    };
}

#[doc = page!("deploying.md")]
pub mod deploying {}

#[doc = page!("faults.md")]
pub mod faults {}

#[doc = page!("oauth.md")]
pub mod oauth {}

#[doc = page!("observability.md")]
pub mod observability {}

#[doc = page!("performance.md")]
pub mod performance {}
