//! [`ByDeadline`]: a future that ends by a moment.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that fires this much later than it should shows that the process itself stood still.
const LATE: Duration = Duration::from_millis(10);
/// Then the answer may lie unread in the socket. So much time is left for reading it.
const GRACE: Duration = Duration::from_millis(50);
/// And as often, where it stands still again.
const MOST_GRACES: u32 = 3;

pin_project! {
    /// What a future answers, or `None` where it does not by a deadline. The time in which this process stood still does
    /// not count: a handler that blocks its thread makes no other request fail whose answer is there.
    pub(crate) struct ByDeadline<F> {
        #[pin]
        future: F,
        #[pin]
        end: Sleep,
        graces: u32,
    }
}

pub(crate) fn by_deadline<F: Future>(deadline: Instant, future: F) -> ByDeadline<F> {
    ByDeadline {
        future,
        end: sleep_until(deadline),
        graces: 0,
    }
}

impl<F: Future> Future for ByDeadline<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(answer) = this.future.poll(cx) {
            return Poll::Ready(Some(answer));
        }
        loop {
            ready!(this.end.as_mut().poll(cx));
            let now = Instant::now();
            let late = now.saturating_duration_since(this.end.deadline());
            if late <= LATE || *this.graces == MOST_GRACES {
                return Poll::Ready(None);
            }
            *this.graces += 1;
            this.end.as_mut().reset(now + GRACE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, thread};

    use tokio::{io::AsyncReadExt, net::TcpListener};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_future_that_never_answers_ends_at_its_deadline() {
        let began = Instant::now();
        let deadline = began + Duration::from_secs(1);
        assert_eq!(by_deadline(deadline, pending::<()>()).await, None);
        assert!(began.elapsed() <= Duration::from_secs(1) + LATE);
    }

    #[tokio::test]
    async fn a_process_that_stands_still_all_the_time_ends_it_all_the_same() {
        tokio::spawn(async {
            loop {
                thread::sleep(Duration::from_millis(100));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let began = Instant::now();
        let deadline = began + Duration::from_millis(100);
        assert_eq!(by_deadline(deadline, pending::<()>()).await, None);
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn what_lies_in_the_socket_is_read_though_the_thread_was_blocked() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("a port");
        let answer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let deadline = Instant::now() + Duration::from_millis(100);
            by_deadline(deadline, async move { stream.read_u8().await.ok() }).await
        });
        let mut client = std::net::TcpStream::connect(addr).expect("a connection");
        // The other side waits for the byte.
        tokio::time::sleep(Duration::from_millis(20)).await;
        std::io::Write::write_all(&mut client, &[7]).expect("written");
        thread::sleep(Duration::from_millis(300));
        assert_eq!(answer.await.expect("a task"), Some(Some(7)));
    }
}
