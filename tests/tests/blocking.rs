//! Every scenario with `hopmq-blocking`: the source without `async` and `.await`.

#[path = "../scenarios/mod.rs"]
mod scenarios;

mod api {
    use std::thread::{self, JoinHandle};

    pub(crate) use hopmq_blocking::*;
    use hopmq_tests::Outcome;
    pub(crate) use hopmq_tests::choose_blocking as choose;

    use crate::scenarios::Test;

    #[derive(Clone)]
    pub(crate) struct Api;

    impl Api {
        pub(crate) fn open(&self, builder: &Builder) -> Result<Connection> {
            builder.open()
        }
    }

    /// Work that runs in parallel with the scenario.
    pub(crate) struct Job<T>(JoinHandle<T>);

    impl<T> Job<T> {
        pub(crate) fn join(self) -> T {
            self.0.join().expect("the thread does not panic")
        }
    }

    impl Test {
        /// Starts work in parallel with the scenario.
        pub(crate) fn start<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Job<T> {
            Job(thread::spawn(work))
        }

        /// Does the work `count` times in parallel, and waits for all of it.
        pub(crate) fn together(&self, count: usize, work: impl Fn(usize) -> Outcome + Send + Sync) -> Outcome {
            let work = &work;
            thread::scope(|scope| {
                let jobs: Vec<_> = (0..count).map(|index| scope.spawn(move || work(index))).collect();
                jobs.into_iter().try_for_each(|job| job.join().expect("the thread does not panic"))
            })
        }

        /// Does work that blocks the thread.
        pub(crate) fn unblock<T>(&self, work: impl FnOnce() -> T) -> T {
            work()
        }
    }

    pub(crate) fn run(scenario: &'static str, alone: bool, body: impl FnOnce(Test) -> Outcome + Send + 'static) {
        hopmq_tests::run(scenario, alone, |harness| body(Test { harness, api: Api }));
    }
}
