//! What the asynchronous client APIs have in common in the scenarios.

use std::future::Future;
use std::pin::Pin;

pub(crate) use futures_lite::StreamExt;
pub(crate) use hopmq::*;
use hopmq_tests::Outcome;
pub(crate) use hopmq_tests::choose_async as choose;

use crate::scenarios::Test;

/// Work that runs beside the scenario.
pub(crate) struct Job<T>(Pin<Box<dyn Future<Output = T> + Send>>);

impl<T> Job<T> {
    pub(crate) async fn join(self) -> T {
        self.0.await
    }
}

impl Test {
    /// Starts work beside the scenario.
    pub(crate) fn start<F, T>(&self, work: impl FnOnce() -> F) -> Job<T>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        Job(Box::pin(self.api.spawn(work())))
    }

    /// Does the same work `count` times at once, and waits for all of it.
    pub(crate) async fn together<F>(&self, count: usize, work: impl Fn(usize) -> F) -> Outcome
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let jobs: Vec<_> = (0..count).map(|index| self.start(|| work(index))).collect();
        for job in jobs {
            job.join().await?;
        }
        Ok(())
    }

    /// Runs work that would block a thread.
    pub(crate) async fn unblock<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        blocking::unblock(work).await
    }
}

/// What only has a method where it can't be awaited.
pub(crate) trait Wait: Sized {
    fn wait(self) -> Self {
        self
    }
}

impl Wait for Confirm {}
impl Wait for Confirms {}
