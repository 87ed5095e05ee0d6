//! The commands that the documentation of `RedisStore` says a user needs, as an ACL names them.

/// Wherever the sessions are.
pub fn everywhere() -> Vec<String> {
    marked(&section(), '`')
}

/// On a cluster, as well.
pub fn on_a_cluster() -> Vec<String> {
    let text = section();
    let (_, more) = text.split_once("A cluster needs").expect("the docs");
    let (cluster, _) = more.split_once(';').expect("the docs");
    marked(cluster, '*')
}

/// On a server behind a Sentinel, as well.
pub fn behind_a_sentinel() -> Vec<String> {
    let text = section();
    let (_, more) = text.split_once("Sentinel needs").expect("the docs");
    marked(more, '*')
}

fn section() -> String {
    let source = include_str!("../../../src/store/redis.rs");
    let (_, text) = source.split_once("/// # Access control").expect("the docs");
    let lines = text.lines().skip(1);
    lines.map_while(|line| line.strip_prefix("///")).collect()
}

fn marked(text: &str, mark: char) -> Vec<String> {
    let names = text.split(mark).skip(1).step_by(2);
    names
        .map(|name| name.to_lowercase().replace(' ', "|"))
        .collect()
}
