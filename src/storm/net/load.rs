//! The load: one tokio task for each submit, and one for each polling client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pingora::http::RequestHeader;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use url::form_urlencoded;

use super::connection::{ClientConnection, HttpResponse};
use super::target::Target;
use crate::storm::plan::Plan;
use crate::storm::reply::{LegacyReply, RequestError};
use crate::storm::schedule::Schedule;
use crate::storm::tally::{Tally, Timing};

/// State of a task's submit.
#[derive(Clone)]
enum Submission {
    Pending,
    /// The task has this id.
    Accepted(Arc<str>),
    /// The task has no id.
    Failed,
}

/// A running storm: the state that all submits and clients share.
pub(super) struct Storm {
    pub(super) plan: Plan,
    pub(super) target: Target,
    pub(super) tally: Mutex<Tally>,
    key: String,
    start: Instant,
    /// One for each task.
    submissions: Vec<watch::Sender<Submission>>,
    stop: watch::Sender<bool>,
}

impl Storm {
    /// Starts the storm's clock. Sends nothing yet.
    pub(super) fn new(plan: Plan, target: Target, key: String) -> Arc<Self> {
        #[expect(clippy::disallowed_methods, reason = "delays are measured from here")]
        let start = Instant::now();
        Arc::new(Self {
            tally: Mutex::new(Tally::new(plan.tasks)),
            submissions: (0..plan.tasks).map(|_| watch::Sender::new(Submission::Pending)).collect(),
            stop: watch::Sender::new(false),
            plan,
            target,
            key,
            start,
        })
    }

    /// Returns the time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Stops all submits and clients.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether [`Self::stop`] was called.
    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    async fn stopped(&self) {
        // Cannot fail, because the sender lives as long as `self`.
        drop(self.stop.subscribe().wait_for(|stop| *stop).await);
    }

    /// Submits a task once, when it is due, and publishes its id to the clients that poll it.
    pub(super) async fn submit(self: Arc<Self>, task: usize) {
        let submission = tokio::select! {
            biased;
            submission = self.submit_when_due(task) => submission,
            () = self.stopped() => Submission::Failed,
        };
        if let Some(sender) = self.submissions.get(task) {
            sender.send_replace(submission);
        }
    }

    async fn submit_when_due(&self, task: usize) -> Submission {
        let due = self.plan.submit_due(task);
        sleep_until(self.start + due).await;
        let started = self.elapsed();
        let response = self.send_submit(task).await;
        let timing = Timing { due, started, ended: self.elapsed() };
        let sent_at =
            response.as_ref().map_or(started, |response| response.sent_at.saturating_duration_since(self.start));
        let ready_at = self.plan.solve_time(task).map(|solve_time| sent_at + solve_time);
        let result = response.and_then(|response| LegacyReply::parse(&response.body));
        self.tally.lock().record_submit(task, timing, &result, ready_at);
        match result {
            Ok(LegacyReply::Ok(id)) => Submission::Accepted(Arc::from(id)),
            _ => Submission::Failed,
        }
    }

    async fn send_submit(&self, task: usize) -> Result<HttpResponse, RequestError> {
        let form = Bytes::from(self.plan.submit_body(task, &self.key));
        let request = self.target.request("/in.php", Some(&form))?;
        ClientConnection::default().send(&self.target, &request, Some(&form)).await
    }

    /// Polls a task until the end of the storm, as one of its clients.
    pub(super) async fn poll(self: Arc<Self>, client: usize) {
        let mut client = Client::new(&self, client);
        tokio::select! {
            biased;
            () = client.run() => {}
            () = self.stopped() => {}
        }
        client.record_unfinished();
    }
}

/// A poll without a reply.
struct PendingPoll {
    due: Duration,
    /// When the client started the poll, and whether the client was idle when the poll was due.
    started: Option<(Duration, bool)>,
}

/// A polling client.
struct Client<'a> {
    storm: &'a Storm,
    task: usize,
    schedule: Schedule,
    connection: ClientConnection,
    pending: Option<PendingPoll>,
    /// Whether the rest of the schedule counts: the task has an id, and the client has not stopped at its final answer.
    is_polling: bool,
}

impl<'a> Client<'a> {
    fn new(storm: &'a Storm, client: usize) -> Self {
        Self {
            storm,
            task: client % storm.plan.tasks.max(1),
            schedule: Schedule::new(&storm.plan, client),
            connection: ClientConnection::default(),
            pending: None,
            is_polling: false,
        }
    }

    async fn run(&mut self) {
        let (storm, duration) = (self.storm, self.storm.plan.duration);
        let Some(request) = self.poll_request().await else { return };
        // Polls that were due before the task had an id do not count.
        let first = storm.elapsed();
        self.is_polling = true;
        while let Some(due) = self.schedule.by_ref().find(|due| *due >= first).filter(|due| *due < duration) {
            self.pending = Some(PendingPoll { due, started: None });
            let now = storm.elapsed();
            if now >= duration {
                return;
            }
            let was_idle = now <= due;
            sleep_until(storm.start + due).await;
            let started = storm.elapsed();
            self.pending = Some(PendingPoll { due, started: Some((started, was_idle)) });
            let response = self.connection.send(&storm.target, &request, None).await;
            self.pending = None;
            let result = response.and_then(|response| LegacyReply::parse(&response.body));
            let timing = Timing { due, started, ended: storm.elapsed() };
            storm.tally.lock().record_poll(self.task, timing, was_idle, &result);
            if storm.plan.stop_when_answered && result.is_ok_and(|reply| reply.is_final()) {
                self.is_polling = false;
                return;
            }
        }
    }

    /// Waits until the task has an id and returns the header of its polls, or `None` if the submit failed.
    async fn poll_request(&self) -> Option<RequestHeader> {
        let mut submission = self.storm.submissions.get(self.task)?.subscribe();
        let is_over = |submission: &Submission| !matches!(submission, Submission::Pending);
        let Submission::Accepted(id) = submission.wait_for(is_over).await.ok()?.clone() else { return None };
        let mut query = form_urlencoded::Serializer::new("/res.php?".to_owned());
        query.append_pair("key", &self.storm.key).append_pair("action", "get").append_pair("id", &id);
        self.storm.target.request(&query.finish(), None).ok()
    }

    /// Records the polls that were due and have no reply.
    fn record_unfinished(&mut self) {
        let now = self.storm.elapsed();
        let end = now.min(self.storm.plan.duration);
        let mut tally = self.storm.tally.lock();
        if let Some(PendingPoll { due, started }) = self.pending.take() {
            match started {
                Some((started, was_idle)) => tally.record_cut_short(Timing { due, started, ended: now }, was_idle),
                None if due < end => tally.record_unsent(due, now),
                None => {}
            }
        }
        if self.is_polling {
            for due in self.schedule.by_ref().take_while(|due| *due < end) {
                tally.record_unsent(due, now);
            }
        }
    }
}
