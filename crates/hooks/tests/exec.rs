//! A fleet behind a command: what it is given, what is made of its end, and that nothing of it is left behind.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test, as it should")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use forewarm_control::{Clock, ports::Fleet};
use forewarm_core::{Placement, ScalerId};
use forewarm_hooks::HookFleet;
use forewarm_manifest::ExecTarget;

/// A command that is a script in a folder of its own, where it also runs.
struct Script {
    folder: tempfile::TempDir,
    target: ExecTarget,
}

impl Script {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hook.sh"), text).unwrap();
        let target = ExecTarget {
            command: vec!["sh".into(), "hook.sh".into()],
            env: BTreeMap::new(),
            pass_env: vec!["PATH".into()],
            working_dir: Some(folder.path().into()),
            timeout: Duration::from_secs(20),
        };
        Self { folder, target }
    }

    fn fleet(&self) -> HookFleet {
        HookFleet::exec(ScalerId::from("llama3"), &self.target, Clock::start(1.0))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }
}

const ONE: &str = r#"echo '{"version":1,"replicas":[{"id":"a","phase":"ready"}]}'"#;

async fn error(fleet: &HookFleet) -> String {
    let error = fleet.observe().await.unwrap_err();
    format!("{error}: {}", std::error::Error::source(&error).unwrap())
}

#[tokio::test]
async fn it_gets_the_question_on_its_input_and_answers_on_its_output() {
    let script = Script::new(&format!("cat > question; {ONE}"));
    let fleet = script.fleet();
    assert_eq!(fleet.observe().await.unwrap().replicas[0].id.as_str(), "a");
    assert_eq!(script.read("question"), r#"{"version":1,"scaler":"llama3","operation":"observe"}"#);
    fleet.apply(&Placement { start: 1, ..Placement::default() }).await.unwrap_err();
    assert!(script.read("question").contains(r#""operation":"apply","key":""#));
}

#[tokio::test]
async fn a_command_need_not_read_its_input() {
    let script = Script::new(ONE);
    assert_eq!(script.fleet().observe().await.unwrap().replicas.len(), 1);
}

#[tokio::test]
async fn no_shell_reads_its_arguments_and_its_environment_is_what_was_named() {
    let script = Script::new(&format!("printf '%s' \"$1\" > argument; env > environment; {ONE}"));
    let mut target = script.target.clone();
    target.command.push("$HOME; touch pwned".into());
    target.env.insert("POOL".into(), "h100".into());
    target.pass_env.push("NO_SUCH_VARIABLE".into());
    let fleet = HookFleet::exec(ScalerId::from("llama3"), &target, Clock::start(1.0));
    fleet.observe().await.unwrap();
    assert_eq!(script.read("argument"), "$HOME; touch pwned");
    assert!(!script.file("pwned").exists());
    // Cargo has set more than a dozen; a shell sets some of its own.
    let environment = script.read("environment");
    let mut names: Vec<_> =
        environment.lines().filter_map(|line| line.split_once('=').map(|(name, _)| name)).collect();
    names.retain(|name| !matches!(*name, "PWD" | "OLDPWD" | "SHLVL" | "_"));
    names.sort_unstable();
    assert_eq!(names, ["PATH", "POOL"], "{environment}");
}

#[tokio::test]
async fn exit_codes_say_whether_to_ask_again() {
    struct Case {
        script: &'static str,
        error: &'static str,
        runs: usize,
    }
    let cases = [
        Case {
            script: "echo run >> runs; echo 'no route' >&2; exit 75",
            error: "exit status: 75: no route",
            runs: 3,
        },
        Case { script: "echo run >> runs; kill -9 $$", error: "signal: 9", runs: 3 },
        Case {
            script: "echo run >> runs; echo 'bad credentials' >&2; exit 2",
            error: "exit status: 2: bad credentials",
            runs: 1,
        },
        Case {
            script: r#"echo run >> runs; echo '{"version":1,"error":{"code":"refused","message":"frozen"}}'; exit 1"#,
            error: "cannot reach the fleet: frozen",
            runs: 1,
        },
        Case { script: "echo run >> runs; echo hello", error: "expected value at line 1 column 1", runs: 1 },
        Case {
            script: "echo run >> runs; head -c 2000000 /dev/zero",
            error: "wrote more than 1048576 bytes",
            runs: 1,
        },
    ];
    for Case { script: text, error: expected, runs } in cases {
        let script = Script::new(text);
        let found = error(&script.fleet()).await;
        assert!(found.contains(expected), "{text}: {found}");
        assert_eq!(script.read("runs").lines().count(), runs, "{text}");
    }
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let mut script = Script::new("");
    script.target.command = vec!["no-such-program".into()];
    let found = error(&script.fleet()).await;
    assert!(found.contains("`no-such-program` cannot be run: No such file"), "{found}");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_all_that_it_started() {
    let mut script = Script::new("sleep 1000 & echo $! >> children; wait");
    script.target.timeout = Duration::from_millis(500);
    let found = error(&script.fleet()).await;
    assert!(found.contains("did not end within 0.5 s and was killed"), "{found}");
    let children = script.read("children");
    assert_eq!(children.lines().count(), 3, "it is asked again");
    for child in children.lines() {
        // Killed, and either reaped or about to be.
        let stat = std::fs::read_to_string(Path::new("/proc").join(child).join("stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }
}

#[tokio::test]
async fn what_it_leaves_behind_does_not_keep_its_answer_back() {
    // Such as a worker that it started, which inherited its output.
    let script = Script::new(&format!("sleep 1000 & echo $! > child; {ONE}"));
    assert_eq!(script.fleet().observe().await.unwrap().replicas.len(), 1);
    let child: i32 = script.read("child").trim().parse().unwrap();
    let child = rustix::process::Pid::from_raw(child).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::KILL).expect("it is alive still");
}
