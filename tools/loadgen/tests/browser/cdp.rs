//! A headless browser, driven over the DevTools protocol on a pair of pipes: no port, no driver.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Names under which Debian and others install one; the headless shell is the smallest.
const PROGRAMS: [&str; 5] = [
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "google-chrome",
    "chromium-browser",
];

/// Names the browser to take; says to go without one.
const BROWSER: &str = "BENCH_BROWSER";
const SKIP: &str = "BENCH_SKIP_BROWSER";

/// Longest wait for anything; busy machines start browsers slowly.
const WAIT: Duration = Duration::from_secs(120);

/// The browser to test with; `None` only where the environment says to go without one.
///
/// # Panics
/// If there is none, with what to do about it.
pub fn find() -> Option<PathBuf> {
    if std::env::var_os(SKIP).is_some_and(|it| it == "1") {
        eprintln!("{SKIP}=1: the pages are not opened in a browser");
        return None;
    }
    if let Some(named) = std::env::var_os(BROWSER) {
        return Some(PathBuf::from(named));
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = PROGRAMS.iter().find_map(|program| {
        std::env::split_paths(&paths).map(|folder| folder.join(program)).find(|it| it.is_file())
    });
    Some(found.unwrap_or_else(|| {
        panic!(
            "there is no browser to open the pages in: `cargo dev setup` installs one, or \
             `apt-get install chromium-headless-shell`; {BROWSER}=PATH names another; {SKIP}=1 \
             goes without this test"
        )
    }))
}

/// What the browser found on a page.
#[derive(Debug)]
pub struct Seen {
    /// What the expression that was asked for is.
    pub value: Value,
    /// Errors and warnings on the console, exceptions, what the page's own policy forbade.
    pub problems: Vec<String>,
    /// What it asked for besides the page itself.
    pub requests: Vec<String>,
}

/// A running browser; killed when it goes out of scope.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    events: Vec<Value>,
    last_id: u64,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts `program` with an empty profile.
    pub fn start(program: &Path) -> Browser {
        let profile = tempfile::tempdir().expect("a directory");
        // It reads commands from descriptor 3 and answers on 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >&2"])
            .arg(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-background-networking",
                "--no-first-run",
                "--remote-debugging-pipe",
                "--host-resolver-rules=MAP * ~NOTFOUND",
            ])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        let input = child.stdin.take().expect("piped");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let (out, messages) = channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while output.read_until(0, &mut message).is_ok_and(|count| count > 0) {
                let text = message.strip_suffix(&[0]).unwrap_or(&message);
                let parsed = serde_json::from_slice(text).expect("the browser speaks JSON");
                if out.send(parsed).is_err() {
                    return;
                }
                message.clear();
            }
        });
        Browser { child, input, messages, events: Vec::new(), last_id: 0, _profile: profile }
    }

    /// Opens `page` and evaluates `expression` there; keeps a picture of it as `picture`.
    pub fn open(&mut self, page: &Path, expression: &str, picture: &Path) -> Seen {
        let target = self.call(None, "Target.createTarget", json!({ "url": "about:blank" }));
        let id = target["targetId"].clone();
        let attach = json!({ "targetId": id, "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", attach);
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let session = Some(session.as_str());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"] {
            self.call(session, domain, json!({}));
        }
        self.events.clear();
        let url = format!("file://{}", page.canonicalize().expect("the page is there").display());
        let navigated = self.call(session, "Page.navigate", json!({ "url": url }));
        assert_eq!(navigated.get("errorText"), None, "{navigated}");
        self.wait_for("Page.loadEventFired");
        let wrapped = format!("document.fonts.ready.then(() => ({expression}))");
        let ask = json!({ "expression": wrapped, "awaitPromise": true, "returnByValue": true });
        let answer = self.call(session, "Runtime.evaluate", ask);
        assert_eq!(answer.get("exceptionDetails"), None, "{answer}");
        self.photograph(session, picture);
        let problems = self.events.iter().filter_map(problem).collect();
        let asked = self.events.iter().filter(|it| it["method"] == "Network.requestWillBeSent");
        let asked = asked.filter_map(|it| it["params"]["request"]["url"].as_str());
        let requests = asked.filter(|it| *it != url && !it.starts_with("data:"));
        let requests = requests.map(str::to_owned).collect();
        self.call(None, "Target.closeTarget", json!({ "targetId": id }));
        Seen { value: answer["result"]["value"].clone(), problems, requests }
    }

    fn photograph(&mut self, session: Option<&str>, picture: &Path) {
        let whole = json!({ "captureBeyondViewport": true });
        let shot = self.call(session, "Page.captureScreenshot", whole);
        let data = shot["data"].as_str().expect("a picture");
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data);
        std::fs::write(picture, bytes.expect("base64")).expect("written");
    }

    fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.input.write_all(&bytes).and_then(|()| self.input.flush()).expect("it listens");
        let deadline = Instant::now() + WAIT;
        loop {
            let answer = self.next(deadline, method);
            if answer["id"] == self.last_id {
                assert_eq!(answer.get("error"), None, "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn wait_for(&mut self, event: &str) {
        let deadline = Instant::now() + WAIT;
        while !self.events.iter().any(|it| it["method"] == event) {
            let message = self.next(deadline, event);
            self.events.push(message);
        }
    }

    fn next(&mut self, deadline: Instant, what: &str) -> Value {
        let left = deadline.saturating_duration_since(Instant::now());
        self.messages.recv_timeout(left).unwrap_or_else(|error| {
            panic!("the browser ({:?}) said nothing to {what}: {error}", self.child.try_wait())
        })
    }
}

/// What an event says is wrong, if it does.
fn problem(event: &Value) -> Option<String> {
    let params = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(params["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" if params["type"] == "error" || params["type"] == "warning" => {
            Some(params["args"].to_string())
        }
        "Log.entryAdded"
            if ["error", "warning"].iter().any(|it| params["entry"]["level"] == *it) =>
        {
            Some(params["entry"]["text"].to_string())
        }
        "Network.loadingFailed" => Some(params.to_string()),
        _ => None,
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
