//! Redis at fault: slow, stopped, gone, half connected, or saying no.

mod clock;
mod front;
mod late;
mod logins;
mod places;
mod readable;
mod recovery;
mod refused;
mod rights;
mod scene;
mod slow;
mod time;
mod unfinished;
mod unwilling;
