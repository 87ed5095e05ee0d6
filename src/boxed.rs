//! [`boxed`]: a large future in a box, without its type: rustc looks only so far into the futures of those who use a store.

use std::{future::Future, pin::Pin};

pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes a future in its box. `Box::pin` makes it first and then copies all of it: one that asks Redis has 5 KB.
pub(crate) fn boxed<'a, F>(make: impl FnOnce() -> F) -> Boxed<'a, F::Output>
where
    F: Future + Send + 'a,
{
    let place = Box::<F>::new_uninit();
    let future = Box::write(place, make());
    Box::into_pin(future)
}
