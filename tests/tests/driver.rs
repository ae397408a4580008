//! Every scenario with a driver that the program spawns on its own executor, on the thread of the scenario.

#[path = "../apis/asynchronous.rs"]
mod asynchronous;
#[path = "../scenarios/futures.rs"]
mod futures;
#[path = "../scenarios/mod.rs"]
mod scenarios;

mod api {
    use std::future::Future;
    use std::sync::Arc;

    use async_executor::Executor;
    use hopmq_tests::Outcome;

    pub(crate) use crate::asynchronous::*;
    use crate::scenarios::Test;

    #[derive(Clone)]
    pub(crate) struct Api(Arc<Executor<'static>>);

    impl Api {
        pub(crate) async fn open(&self, builder: &Builder) -> Result<Connection> {
            let (connection, driver) = builder.connect().await?;
            self.0.spawn(driver).detach();
            Ok(connection)
        }

        pub(crate) fn spawn<F>(&self, work: F) -> impl Future<Output = F::Output> + Send + use<F>
        where
            F: Future<Output: Send> + Send + 'static,
        {
            self.0.spawn(work)
        }
    }

    pub(crate) fn run<F>(scenario: &'static str, alone: bool, body: impl FnOnce(Test) -> F + Send + 'static)
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        hopmq_tests::run(scenario, alone, |harness| {
            let executor = Arc::new(Executor::new());
            let test = Test { harness, api: Api(Arc::clone(&executor)) };
            async_io::block_on(executor.run(body(test)))
        });
    }
}
