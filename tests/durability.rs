//! What a client has seen survives the end of the process: ids, answers, reports. In process, over a store that fails
//! and waits on request.

use std::sync::Arc;

use capgate::ledger::{Ledger, RestoreStats};
use capgate::store::Store;
use capgate::store::backend::Space;
use capgate::store::cipher::{Cipher, KEY_BYTES};
use capgate::store::memory::{MemoryBackend, Mode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::support::gateway::TestGateway;
use crate::support::http::Response;
use crate::support::scripted_upstream::UpstreamCall;
use crate::support::upstream_reply::UpstreamReply;

const SUBMIT: &str = "/in.php?key=K&method=userrecaptcha&googlekey=sitekey&pageurl=https://example.com";
const CREATED: &str = r#"{"errorId":0,"taskId":"native-1"}"#;
const READY: &str = r#"{"errorId":0,"status":"ready","solution":{"gRecaptchaResponse":"TOKEN"}}"#;
const PROCESSING: &str = r#"{"errorId":0,"status":"processing"}"#;

/// A gateway process over a store that outlives it.
struct Gateway {
    gateway: TestGateway,
    calls: mpsc::UnboundedReceiver<UpstreamCall>,
}

fn store(backend: &Arc<MemoryBackend>) -> Arc<Store> {
    Arc::new(Store::new(Arc::<MemoryBackend>::clone(backend), Cipher::new(&[7; KEY_BYTES], &[])))
}

impl Gateway {
    fn start(backend: &Arc<MemoryBackend>) -> Self {
        let (gateway, calls) = TestGateway::in_process_with_store(Vec::new(), Some(store(backend)));
        Self { gateway, calls }
    }

    async fn start_and_restore(backend: &Arc<MemoryBackend>) -> (Self, RestoreStats) {
        let this = Self::start(backend);
        let stats = this.restore().await;
        (this, stats)
    }

    async fn restore(&self) -> RestoreStats {
        let TestGateway::InProcess { ledger, .. } = &self.gateway else { panic!("in process") };
        ledger.restore().await.expect("a readable store")
    }

    fn get(&self, target: &str) -> JoinHandle<Response> {
        self.gateway.request("GET", target, "", Vec::new())
    }

    async fn body(&self, target: &str) -> String {
        text(self.get(target)).await
    }

    fn poll(&self, id: &str) -> JoinHandle<Response> {
        self.get(&format!("/res.php?key=K&action=get&id={id}"))
    }

    /// Answers the next upstream call, which must be of this endpoint.
    async fn answer(&mut self, path: &str, body: &str) {
        let call = self.calls.recv().await.expect("a call");
        assert_eq!(call.path, path);
        assert!(call.reply(UpstreamReply::Response { status: 200, body: body.into() }));
    }

    /// Polls a task, which the upstream has solved.
    async fn poll_solved(&mut self, id: &str) {
        let polled = self.poll(id);
        self.answer("/getTaskResult", READY).await;
        assert_eq!(text(polled).await, "OK|TOKEN");
    }

    /// Submits a task whose id is given out before the upstream answers. Returns the call that waits, and the id.
    async fn submit_unanswered(&mut self) -> (UpstreamCall, String) {
        let submitted = self.get(SUBMIT);
        let call = self.calls.recv().await.expect("a call");
        (call, id_of(&text(submitted).await))
    }

    async fn accept_key(&mut self) {
        let balance = self.get("/res.php?key=K&action=getbalance");
        self.answer("/getBalance", r#"{"errorId":0,"balance":1}"#).await;
        assert_eq!(text(balance).await, "1.0000");
    }

    async fn submit(&mut self) -> String {
        let submitted = self.get(SUBMIT);
        self.answer("/createTask", CREATED).await;
        id_of(&text(submitted).await)
    }
}

async fn text(response: JoinHandle<Response>) -> String {
    String::from_utf8(response.await.expect("answered").body).expect("UTF-8")
}

fn id_of(reply: &str) -> String {
    reply.strip_prefix("OK|").unwrap_or_else(|| panic!("no id: {reply}")).to_owned()
}

/// Lets all tasks run that can.
async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_is_given_out_once_its_task_is_durable() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    backend.set_mode(Mode::Holds);
    let submitted = first.get(SUBMIT);
    first.answer("/createTask", CREATED).await;
    settle().await;
    assert!(!submitted.is_finished(), "the task is not durable");
    backend.set_mode(Mode::Works);
    let id = id_of(&text(submitted).await);
    drop(first);

    let (mut second, stats) = Gateway::start_and_restore(&backend).await;
    assert_eq!(stats, RestoreStats { restored: 1, expired: 0, unreadable: 0 });
    second.poll_solved(&id).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_durable_before_a_client_hears_it() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let id = first.submit().await;
    backend.set_mode(Mode::Holds);
    let polled = first.poll(&id);
    first.answer("/getTaskResult", READY).await;
    settle().await;
    assert!(!polled.is_finished(), "the answer is not durable");
    backend.set_mode(Mode::Works);
    assert_eq!(text(polled).await, "OK|TOKEN");
    drop(first);

    let (second, _) = Gateway::start_and_restore(&backend).await;
    assert_eq!(second.body(&format!("/res.php?key=K&action=get&id={id}")).await, "OK|TOKEN");
    // Only its account finds a restored task.
    assert_eq!(second.body(&format!("/res.php?key=L&action=get&id={id}")).await, "ERROR_WRONG_CAPTCHA_ID");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_delays_an_answer_only_briefly() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let id = first.submit().await;
    backend.set_mode(Mode::Holds);
    first.poll_solved(&id).await;
}

#[tokio::test(start_paused = true)]
async fn without_the_store_submits_are_refused_and_polls_go_on() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let id = first.submit().await;
    backend.set_mode(Mode::Fails);
    assert_eq!(first.body(SUBMIT).await, "ERROR_NO_SLOT_AVAILABLE");
    assert!(first.calls.try_recv().is_err(), "nothing is paid for");
    first.poll_solved(&id).await;
    backend.set_mode(Mode::Works);
    first.submit().await;
}

#[tokio::test(start_paused = true)]
async fn a_submit_whose_task_cannot_be_saved_is_refused_and_forgotten() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let submitted = first.get(SUBMIT);
    let call = first.calls.recv().await.expect("a call");
    backend.set_mode(Mode::Fails);
    assert!(call.reply(UpstreamReply::Response { status: 200, body: CREATED.into() }));
    assert_eq!(text(submitted).await, "ERROR_NO_SLOT_AVAILABLE");
    assert_eq!(first.gateway.counter("records"), Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_refused_submit_leaves_nothing_in_the_store() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let submitted = first.get(SUBMIT);
    first.answer("/createTask", r#"{"errorId":1,"errorCode":"ERROR_ZERO_BALANCE"}"#).await;
    assert_eq!(text(submitted).await, "ERROR_ZERO_BALANCE");
    settle().await;
    assert_eq!(backend.count(Space::Tasks), 0);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_given_out_before_createtask_answered_is_durable_too() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let (call, id) = first.submit_unanswered().await;
    assert_eq!(backend.count(Space::Tasks), 1);
    assert!(call.reply(UpstreamReply::Response { status: 200, body: CREATED.into() }));
    settle().await;
    drop(first);
    let (mut second, _) = Gateway::start_and_restore(&backend).await;
    second.poll_solved(&id).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_is_remembered_over_a_restart() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let (call, id) = first.submit_unanswered().await;
    let refusal = r#"{"errorId":1,"errorCode":"ERROR_SITEKEY"}"#;
    assert!(call.reply(UpstreamReply::Response { status: 200, body: refusal.into() }));
    settle().await;
    assert_eq!(text(first.poll(&id)).await, "ERROR_GOOGLEKEY");
    drop(first);
    let (second, _) = Gateway::start_and_restore(&backend).await;
    assert_eq!(text(second.poll(&id)).await, "ERROR_GOOGLEKEY");
}

#[tokio::test(start_paused = true)]
async fn while_tasks_are_restored_a_poll_finds_its_task_in_the_store() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let id = first.submit().await;
    drop(first);
    let mut second = Gateway::start(&backend);
    assert_eq!(second.body("/res.php?key=K&action=get&id=1").await, "ERROR_WRONG_CAPTCHA_ID");
    assert_eq!(second.body(&format!("/res.php?key=L&action=get&id={id}")).await, "ERROR_WRONG_CAPTCHA_ID");
    let polled = second.poll(&id);
    second.answer("/getTaskResult", PROCESSING).await;
    assert_eq!(text(polled).await, "CAPCHA_NOT_READY");
    assert_eq!(second.restore().await, RestoreStats { restored: 1, expired: 0, unreadable: 0 });
    assert_eq!(second.gateway.counter("records"), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_be_looked_up_reads_as_not_ready() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let id = first.submit().await;
    drop(first);
    let second = Gateway::start(&backend);
    backend.set_mode(Mode::Fails);
    assert_eq!(text(second.poll(&id)).await, "CAPCHA_NOT_READY");
    backend.set_mode(Mode::Works);
    assert_eq!(second.restore().await.restored, 1);
    assert_eq!(second.body("/res.php?key=K&action=get&id=1").await, "ERROR_WRONG_CAPTCHA_ID");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_the_upstream_does_not_know_for_a_moment_stays_open_over_a_restart() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let id = first.submit().await;
    let polled = first.poll(&id);
    first.answer("/getTaskResult", r#"{"errorId":1,"errorCode":"ERROR_WRONG_CAPTCHA_ID"}"#).await;
    assert_eq!(text(polled).await, "CAPCHA_NOT_READY");
    settle().await;
    drop(first);
    let (mut second, _) = Gateway::start_and_restore(&backend).await;
    second.poll_solved(&id).await;
}

#[tokio::test(start_paused = true)]
async fn a_report_during_the_restoration_finds_its_task() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let id = first.submit_solved().await;
    drop(first);
    let mut second = Gateway::start(&backend);
    let reported = second.report("reportgood", &id);
    second.answer(FEEDBACK, RECORDED).await;
    assert_eq!(text(reported).await, "OK_REPORT_RECORDED");
}

#[tokio::test(start_paused = true)]
async fn a_restart_forgets_fewer_than_ten_polls() {
    let backend = Arc::new(MemoryBackend::default());
    let settings = || vec![("CAPGATE_LEDGER_POLLS_MAX".to_owned(), "12".to_owned())];
    let (gateway, calls) = TestGateway::in_process_with_store(settings(), Some(store(&backend)));
    let mut first = Gateway { gateway, calls };
    first.restore().await;
    let id = first.submit().await;
    for _ in 0..11 {
        // The next poll is due when the pacing allows it, whatever its interval.
        while first.calls.is_empty() {
            drop(first.poll(&id));
            tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        }
        first.answer("/getTaskResult", PROCESSING).await;
        settle().await;
    }
    drop(first);
    let (gateway, mut calls) = TestGateway::in_process_with_store(settings(), Some(store(&backend)));
    let TestGateway::InProcess { ledger, .. } = &gateway else { panic!("in process") };
    ledger.restore().await.expect("a readable store");
    let mut polls = 0;
    for _ in 0..200 {
        drop(gateway.request("GET", &format!("/res.php?key=K&action=get&id={id}"), "", Vec::new()));
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        if let Ok(call) = calls.try_recv() {
            polls += 1;
            call.reply(UpstreamReply::Response { status: 200, body: PROCESSING.into() });
        }
    }
    assert!(polls <= 2 + 1, "{polls} polls after 11 of 12");
}

#[tokio::test(start_paused = true)]
async fn a_group_survives_with_its_members() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    // Of a key that the upstream has not accepted yet, one call is sent at a time.
    first.accept_key().await;
    let field =
        |name: &str, value: &str| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let file = |name: &str| {
        let image = format!("GIF89a{}", "b".repeat(100));
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"a.gif\"\r\n\r\n{image}\r\n")
    };
    let form =
        [field("key", "K"), field("method", "rotatecaptcha"), file("file_1"), file("file_2"), "--x--\r\n".into()];
    let content_type = "multipart/form-data; boundary=x";
    let submitted = first.gateway.request("POST", "/in.php", content_type, form.concat().into_bytes());
    settle().await;
    for number in 1..=2 {
        first.answer("/createTask", &format!(r#"{{"errorId":0,"taskId":"native-{number}"}}"#)).await;
    }
    let reply = text(submitted).await;
    let id = id_of(&reply);
    drop(first);
    let (mut second, stats) = Gateway::start_and_restore(&backend).await;
    assert_eq!(stats.restored, 3, "the members and the group");
    second.accept_key().await;
    let polled = second.poll(&id);
    settle().await;
    for angle in [20, 40] {
        let body = format!(r#"{{"errorId":0,"status":"ready","solution":{{"rotate":{angle}}}}}"#);
        second.answer("/getTaskResult", &body).await;
    }
    let mut angles: Vec<String> = text(polled).await.trim_start_matches("OK|").split('|').map(str::to_owned).collect();
    angles.sort();
    assert_eq!(angles, ["20", "40"]);
}

const FEEDBACK: &str = "/feedbackTask";
const RECORDED: &str = r#"{"errorId":0,"message":"Feedback recorded"}"#;

impl Gateway {
    fn report(&self, action: &str, id: &str) -> JoinHandle<Response> {
        self.get(&format!("/res.php?key=K&action={action}&id={id}"))
    }

    fn send_queued_reports(&self) {
        let TestGateway::InProcess { gateway, .. } = &self.gateway else { panic!("in process") };
        tokio::spawn((**gateway).clone().run_reports());
    }

    /// Submits a task that the upstream solves at once.
    async fn submit_solved(&mut self) -> String {
        let submitted = self.get(SUBMIT);
        let solved = r#"{"errorId":0,"taskId":"native-1","status":"ready","solution":{"gRecaptchaResponse":"TOKEN"}}"#;
        self.answer("/createTask", solved).await;
        id_of(&text(submitted).await)
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_is_durable_before_it_is_sent() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let id = first.submit_solved().await;
    backend.set_mode(Mode::Holds);
    let reported = first.report("reportbad", &id);
    settle().await;
    assert!(first.calls.try_recv().is_err(), "the report is not durable");
    backend.set_mode(Mode::Works);
    first.answer(FEEDBACK, RECORDED).await;
    assert_eq!(text(reported).await, "OK_REPORT_RECORDED");
    backend.set_mode(Mode::Fails);
    let other = first.report("reportbad", &id);
    assert_eq!(text(other).await, "OK_REPORT_RECORDED", "recorded already");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_cannot_be_saved_is_refused_and_may_be_made_again() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let id = first.submit_solved().await;
    backend.set_mode(Mode::Fails);
    assert_eq!(text(first.report("reportgood", &id)).await, "ERROR_REPORT_NOT_RECORDED");
    assert!(first.calls.try_recv().is_err());
    backend.set_mode(Mode::Works);
    let reported = first.report("reportgood", &id);
    first.answer(FEEDBACK, RECORDED).await;
    assert_eq!(text(reported).await, "OK_REPORT_RECORDED");
}

#[tokio::test(start_paused = true)]
async fn a_report_without_an_outcome_is_acknowledged_and_sent_again_until_it_is_recorded() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    first.send_queued_reports();
    let id = first.submit_solved().await;
    let reported = first.report("reportbad", &id);
    first.answer(FEEDBACK, "no JSON").await;
    assert_eq!(text(reported).await, "OK_REPORT_RECORDED");
    assert_eq!(text(first.report("reportbad", &id)).await, "OK_REPORT_RECORDED");
    assert_eq!(text(first.report("reportgood", &id)).await, "ERROR_DUPLICATE_REPORT");
    first.answer(FEEDBACK, "no JSON").await;
    // The earlier attempt had arrived.
    first.answer(FEEDBACK, r#"{"errorId":1,"errorCode":"ERROR_DUPLICATE_REPORT"}"#).await;
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert!(first.calls.try_recv().is_err(), "recorded");
    assert_eq!(text(first.report("reportbad", &id)).await, "OK_REPORT_RECORDED");
}

#[tokio::test(start_paused = true)]
async fn a_report_in_progress_is_sent_by_the_next_process() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    let id = first.submit_solved().await;
    drop(first.report("reportgood", &id));
    let unanswered = first.calls.recv().await.expect("a call");
    assert_eq!(unanswered.path, FEEDBACK);
    // Nothing of the first process runs on.
    backend.set_mode(Mode::Holds);
    drop(first);

    let (mut second, _) = {
        let copy = Arc::new(backend.snapshot());
        Gateway::start_and_restore(&copy).await
    };
    second.send_queued_reports();
    second.answer(FEEDBACK, RECORDED).await;
    settle().await;
    assert_eq!(text(second.report("reportgood", &id)).await, "OK_REPORT_RECORDED");
    assert_eq!(text(second.report("reportbad", &id)).await, "ERROR_DUPLICATE_REPORT");
    assert!(second.calls.try_recv().is_err());
    drop(unanswered);
}

#[tokio::test(start_paused = true)]
async fn a_report_is_refused_and_given_up_after_the_window_of_the_upstream() {
    let backend = Arc::new(MemoryBackend::default());
    let (mut first, _) = Gateway::start_and_restore(&backend).await;
    first.send_queued_reports();
    let (queued, late) = (first.submit_solved().await, first.submit_solved().await);
    let reported = first.report("reportbad", &queued);
    first.answer(FEEDBACK, "no JSON").await;
    assert_eq!(text(reported).await, "OK_REPORT_RECORDED");
    let mut attempts = 0;
    for _ in 0..1_000 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        while let Ok(call) = first.calls.try_recv() {
            attempts += 1;
            call.reply(UpstreamReply::Response { status: 200, body: "no JSON".into() });
        }
    }
    assert!((10..30).contains(&attempts), "{attempts} attempts in 15 minutes");
    assert_eq!(text(first.report("reportbad", &queued)).await, "ERROR_REPORT_NOT_RECORDED");
    assert_eq!(text(first.report("reportbad", &late)).await, "ERROR_REPORT_NOT_RECORDED");
    assert!(first.calls.try_recv().is_err());
}

/// Two processes over one store, as during an upgrade: `old` finishes what it has begun, and `new` has taken over.
mod overlap {
    use std::time::Duration;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(100);

    fn ledger(gateway: &Gateway) -> Ledger {
        let TestGateway::InProcess { ledger, .. } = &gateway.gateway else { panic!("in process") };
        ledger.clone()
    }

    /// Lets a new process take over from an old one.
    async fn take_over(old: &Gateway, backend: &Arc<MemoryBackend>) -> Gateway {
        let old = ledger(old);
        let handover = tokio::task::spawn_blocking(move || old.begin_handover()).await.expect("a handover");
        let new = Gateway::start(backend);
        ledger(&new).begin_overlap();
        new.restore().await;
        handover.finish();
        new
    }

    #[tokio::test(start_paused = true)]
    async fn each_process_serves_the_tasks_that_the_other_makes() {
        let backend = Arc::new(MemoryBackend::default());
        let (mut old, _) = Gateway::start_and_restore(&backend).await;
        old.accept_key().await;
        let mut new = take_over(&old, &backend).await;
        new.accept_key().await;
        for is_old in [true, false] {
            let (maker, other) = if is_old { (&mut old, &mut new) } else { (&mut new, &mut old) };
            let id = maker.submit().await;
            other.poll_solved(&id).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_submit_in_progress_is_served_once_the_old_process_has_its_answer() {
        let backend = Arc::new(MemoryBackend::default());
        let (mut old, _) = Gateway::start_and_restore(&backend).await;
        old.accept_key().await;
        // The id is given out before the upstream answers.
        let (call, id) = old.submit_unanswered().await;
        let mut new = take_over(&old, &backend).await;
        assert_eq!(text(new.poll(&id)).await, "CAPCHA_NOT_READY");
        assert!(call.reply(UpstreamReply::Response { status: 200, body: CREATED.into() }));
        settle().await;
        new.poll_solved(&id).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_old_process_leaves_is_restored_at_its_end() {
        let backend = Arc::new(MemoryBackend::default());
        let (mut old, _) = Gateway::start_and_restore(&backend).await;
        old.accept_key().await;
        let mut new = take_over(&old, &backend).await;
        let id = old.submit().await;
        drop(old);
        ledger(&new).end_overlap(LONGEST).await;
        // From memory: an unknown task is not looked up any more.
        assert_eq!(ledger(&new).stats().records, 1);
        new.poll_solved(&id).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_that_the_old_process_delivers_is_not_sent_again() {
        let backend = Arc::new(MemoryBackend::default());
        let (mut old, _) = Gateway::start_and_restore(&backend).await;
        let id = old.submit_solved().await;
        let reported = old.report("reportgood", &id);
        let call = old.calls.recv().await.expect("a call");
        // The new process restores a report that may not have been sent.
        let mut new = take_over(&old, &backend).await;
        assert_eq!(ledger(&new).queued_reports(), 1);
        assert!(
            call.reply(UpstreamReply::Response { status: 200, body: r#"{"errorId":0,"status":"success"}"#.into() })
        );
        assert_eq!(text(reported).await, "OK_REPORT_RECORDED");
        settle().await;
        drop(old);
        ledger(&new).end_overlap(LONGEST).await;
        new.send_queued_reports();
        settle().await;
        assert!(new.calls.try_recv().is_err(), "the report was delivered");
        assert_eq!(text(new.report("reportbad", &id)).await, "ERROR_DUPLICATE_REPORT");
    }

    /// Whether a process saves its state, from which the next one continues.
    async fn saves_its_state(gateway: &Gateway, backend: &MemoryBackend) -> bool {
        let before = backend.count(Space::System);
        let upkeep = tokio::spawn(ledger(gateway).run_upkeep());
        tokio::time::sleep(LONGEST).await;
        upkeep.abort();
        backend.count(Space::System) > before
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_saves_its_state_until_another_has_taken_over() {
        let backend = Arc::new(MemoryBackend::default());
        let (gateway, _) = Gateway::start_and_restore(&backend).await;
        let begin = async || {
            let ledger = ledger(&gateway);
            tokio::task::spawn_blocking(move || ledger.begin_handover()).await.expect("a handover")
        };
        // Two new processes could not start.
        drop(begin().await);
        drop(begin().await);
        assert!(saves_its_state(&gateway, &backend).await);
        let backend = Arc::new(MemoryBackend::default());
        let (gateway, _) = Gateway::start_and_restore(&backend).await;
        let old = ledger(&gateway);
        tokio::task::spawn_blocking(move || old.begin_handover().finish()).await.expect("a handover");
        assert!(!saves_its_state(&gateway, &backend).await, "the next ids belong to the new process");
    }
}
