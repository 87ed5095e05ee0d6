//! Redis at fault: slow, stopped, gone, half connected, or saying no.

mod busy;
mod clock;
mod does_not_write;
mod front;
mod idle;
mod late_writes;
mod logins;
mod places;
mod readable;
mod recovery;
mod refused;
mod renewal;
mod rights;
mod scene;
mod slow;
mod time;
