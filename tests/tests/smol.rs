//! Every scenario with `Connection::open`, in tasks on smol's executor.

#[path = "../apis/asynchronous.rs"]
mod asynchronous;
#[path = "../scenarios/futures.rs"]
mod futures;
#[path = "../scenarios/mod.rs"]
mod scenarios;

mod api {
    use std::future::Future;

    use hopmq_tests::Outcome;

    pub(crate) use crate::asynchronous::*;
    use crate::scenarios::Test;

    #[derive(Clone)]
    pub(crate) struct Api;

    impl Api {
        pub(crate) async fn open(&self, builder: &Builder) -> Result<Connection> {
            builder.open().await
        }

        pub(crate) fn spawn<F>(&self, work: F) -> impl Future<Output = F::Output> + Send + use<F>
        where
            F: Future<Output: Send> + Send + 'static,
        {
            smol::spawn(work)
        }
    }

    pub(crate) fn run<F>(scenario: &'static str, alone: bool, body: impl FnOnce(Test) -> F + Send + 'static)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        hopmq_tests::run(scenario, alone, |harness| smol::block_on(smol::spawn(body(Test { harness, api: Api }))));
    }
}
