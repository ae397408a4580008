//! Handlers under faults: an app with random routes on the embedded broker, whose links break, whose broker refuses,
//! and whose process dies. Each run has a seed, which repeats the run exactly.
//!
//! Every order that the broker took is handled to its end at least once, in order per key, or lies in the dead letters
//! or parked with its reason. Without faults, nothing happens twice.
//!
//! ```sh
//! HOPMQ_SEEDS=10000 cargo test -p hopmq-app --test simulation   # 10,000 runs
//! HOPMQ_SEED=4711 cargo test -p hopmq-app --test simulation     # repeats one run
//! ```

mod check;
mod plan;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use hopmq::Properties;
use hopmq_app::flow::{Failure, Verdict};
use hopmq_app::test::{Instance, TestApp};
use hopmq_app::{App, Context, Exchange, Json, Local, State};

use hopmq_broker::Direction;
use plan::{Fate, Order, Plan, Random};

/// What happened in a run.
#[derive(Default)]
struct Record {
    published: Vec<Order>,
    /// The orders whose handler returned success, by their place in the order of success.
    succeeded: Vec<u32>,
    /// The calls of the handler, by order.
    calls: Vec<u32>,
    faults: Vec<&'static str>,
    restarts: u32,
}

type Shared = Rc<RefCell<Record>>;

/// The handler of all queues: does what the order says.
async fn work(Json(order): Json<Order>, State(record): State<Shared>, app: Context) -> Verdict {
    let call = {
        let mut record = record.borrow_mut();
        record.calls.push(order.id);
        record.calls.iter().filter(|id| **id == order.id).count() as u32
    };
    if order.millis > 0 {
        app.sleep(Duration::from_millis(order.millis)).await;
    }
    let failure = |class| Failure::new(class, format!("order {} does not want to", order.id));
    let verdict = match order.fate {
        Fate::Succeeds => Verdict::Ack,
        Fate::FailsFirst { calls } if call > calls => Verdict::Ack,
        Fate::FailsFirst { .. } | Fate::AlwaysFails => Verdict::Retry(failure("unwilling")),
        Fate::Panics => panic!("order {} panics", order.id),
        Fate::IsRejected => Verdict::Reject(failure("wrong")),
        Fate::IsParked => Verdict::Park(failure("strange")),
        Fate::IsReleasedFirst if call == 1 => Verdict::Release,
        Fate::IsReleasedFirst => Verdict::Ack,
        Fate::HangsFirst if call == 1 => std::future::pending().await,
        Fate::HangsFirst => Verdict::Ack,
    };
    if verdict == Verdict::Ack {
        record.borrow_mut().succeeded.push(order.id);
    }
    verdict
}

fn app(plan: &Plan, record: &Shared) -> App<Shared, Local> {
    let app = App::local(Rc::clone(record)).exchange(Exchange::topic("shop")).drain_timeout(Duration::from_secs(5));
    plan.queues.iter().fold(app, |app, queue| app.route(queue.declaration(), work))
}

/// One run.
struct Run {
    test: TestApp,
    plan: Plan,
    record: Shared,
    random: Random,
    app: Option<Instance>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let plan = Plan::new(&mut random);
        let test = TestApp::builder().embedded().seed(seed).profile(plan.profile);
        let test = test.broker(|broker| broker.turn_steps(plan.turn_steps)).open();
        Self { test, plan, record: Shared::default(), random, app: None }
    }

    /// Runs the app; a fault may hit its start.
    fn start(&mut self) {
        for _ in 0..20 {
            match self.test.try_run(app(&self.plan, &self.record)) {
                Ok(instance) => {
                    self.app = Some(instance);
                    return;
                }
                Err(error) => {
                    assert!(!self.record.borrow().faults.is_empty(), "without a fault: {error}");
                    self.test.heal();
                    self.test.advance("1s");
                }
            }
        }
        panic!("the app never started");
    }

    fn play(&mut self) {
        self.start();
        for _ in 0..self.plan.actions {
            match self.random.below(12) {
                0..=4 => self.publish(),
                5 | 6 => self.test.advance(Duration::from_millis(self.random.below(3000))),
                7 => {
                    let steps = self.random.below(60);
                    self.test.steps(steps);
                }
                8 | 9 if self.plan.faults > 0 => {
                    self.plan.faults -= 1;
                    let fault = if self.plan.silent { self.silence() } else { self.test.fault() };
                    self.record.borrow_mut().faults.push(fault);
                }
                10 | 11 if self.plan.restarts > 0 => self.restart(),
                _ => self.test.heal(),
            }
            let ended = self.app.and_then(|app| self.test.ended(app));
            assert!(ended.is_none(), "the app ended by itself: {ended:?}");
        }
        self.test.heal();
        // The broker notices by its heartbeats that a silent link is lost.
        if self.plan.silent {
            self.test.advance("5m");
        }
        let test = &self.test;
        let queues: Vec<_> = self.plan.queues.iter().flat_map(plan::Route::working_queues).collect();
        let idle = test.until("6h", || {
            let inspect = test.broker().expect("it is embedded").inspect();
            let counts = queues.iter().filter_map(|name| inspect.queue(name));
            counts.map(|queue| queue.ready + queue.unacked + queue.delayed).sum::<usize>() == 0
        });
        assert!(idle, "after six hours, messages are left: {:#?}", test.broker().expect("embedded").inspect().queues());
    }

    /// Publishes some orders on the connection of the test, which no fault hits.
    fn publish(&mut self) {
        let channel = self.test.channel();
        for _ in 0..=self.random.below(6) {
            let id = self.record.borrow().published.len() as u32;
            let order = self.plan.order(id, &mut self.random);
            let body = serde_json::to_vec(&order).expect("an order is JSON");
            let properties = Properties::new().with_header("customer", i64::from(order.customer)).with_persistent();
            let key = format!("{}.new", self.plan.queues[order.queue].name);
            let sent = self.test.block_on(channel.publish("shop", &key, body).properties(&properties).send());
            sent.expect("the link of the test lasts");
            self.record.borrow_mut().published.push(order);
        }
        self.test.block_on(channel.close()).expect("the link of the test lasts");
    }

    /// Kills the app, or stops it, in the middle of anything.
    fn restart(&mut self) {
        self.plan.restarts -= 1;
        self.record.borrow_mut().restarts += 1;
        let Some(app) = self.app.take() else { return };
        self.test.steps(self.random.below(40));
        match self.random.below(3) {
            0 => self.test.kill(app),
            1 => self.die_while_writing(app),
            // Withheld confirms would only make it longer.
            _ => self.test.stop_app(app).expect("the app stops"),
        }
        self.test.advance(Duration::from_millis(self.random.below(1000)));
        self.start();
    }
}

impl Run {
    /// Drops what passes the app's link from now on: its two ends notice that at different times.
    fn silence(&self) -> &'static str {
        let broker = self.test.broker().expect("it is embedded");
        let links = broker.inspect().connections();
        match links.iter().rfind(|link| link.name.as_deref() != Some("test")) {
            Some(link) => {
                broker.faults().connection(link.id).silence();
                "a link is silent"
            }
            None => "no link to silence",
        }
    }

    /// Kills the app when a part of what it writes has arrived.
    fn die_while_writing(&mut self, app: Instance) {
        let broker = self.test.broker().expect("it is embedded").clone();
        let links = || broker.inspect().connections().into_iter().filter(|link| link.name.as_deref() != Some("test"));
        if let Some(link) = links().map(|link| link.id).next_back() {
            broker.faults().connection(link).cut_after(Direction::FromClient, self.random.below(24));
            self.publish();
            for _ in 0..200 {
                if !links().any(|other| other.id == link) || !self.test.steps(1) {
                    break;
                }
            }
        }
        self.test.kill(app);
    }
}

fn simulate(seed: u64) {
    let mut run = Run::new(seed);
    run.play();
    check::check(&run.test, &run.plan, &run.record.borrow());
    run.test.stop();
}

#[test]
fn every_order_is_handled_in_order_or_is_with_the_dead_letters() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("HOPMQ_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HOPMQ_SEEDS").unwrap_or(300),
    };
    // Handlers panic in thousands.
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = Vec::new();
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| simulate(seed))) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
            failed.push(format!(
                "seed {seed}: {text}\n  repeat it: HOPMQ_SEED={seed} cargo test -p hopmq-app --test simulation"
            ));
        }
    }
    let _ = std::panic::take_hook();
    let count = failed.len();
    failed.truncate(5);
    assert!(failed.is_empty(), "{count} seeds failed:\n{}", failed.join("\n"));
}
