//! An engine to run as a replica: this program, started again with [`play`] as its only test.

use std::{os::unix::process::CommandExt as _, process::Command, process::Stdio};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};

/// Says how to behave: words separated by commas.
/// `loading`: `503` until asked for `/ready`. `stubborn`: ignores `SIGTERM`. `escapee`: starts a process
/// that leaves its group. `stages`: reports the stages of its start.
const BEHAVIOUR: &str = "TEST_ENGINE";

/// The command that plays the engine; its environment is [`environment`].
pub(crate) fn command() -> Vec<String> {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", "engine::play", "--ignored", "--nocapture"];
    let mut command = vec![program.to_str().unwrap().to_owned()];
    command.extend(arguments.map(str::to_owned));
    command
}

/// Makes the engine behave like this.
pub(crate) fn environment(behaviour: &str) -> (String, String) {
    (BEHAVIOUR.to_owned(), format!("engine,{behaviour}"))
}

/// Sends the engine a request and returns the status line.
pub(crate) async fn request(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
#[ignore = "plays the engine for the other tests"]
fn play() {
    let Ok(behaviour) = std::env::var(BEHAVIOUR) else { return };
    let is = |word: &str| behaviour.split(',').any(|part| part == word);
    if is("escapee") {
        let mut escapee = Command::new("sleep");
        escapee.arg("1000").stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        drop(escapee.spawn().unwrap());
    }
    if is("stages") {
        eprintln!("{{\"stage\":\"pull\",\"seconds\":30.0}}\n{{\"stage\":\"load\",\"seconds\":12.5}}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(!is("loading"), is("stubborn")));
}

async fn serve(mut ready: bool, stubborn: bool) {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let port: u16 = std::env::var("PORT").unwrap().parse().unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    loop {
        let mut stream = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = terminate.recv() => {
                if stubborn { continue }
                std::process::exit(0);
            }
        };
        let mut request = [0; 1024];
        let length = stream.read(&mut request).await.unwrap_or(0);
        let request = String::from_utf8_lossy(&request[..length]).into_owned();
        match request.split(' ').nth(1) {
            Some("/ready") => ready = true,
            Some("/sick") => ready = false,
            Some("/die") => {
                eprintln!("CUDA error: an illegal memory access was encountered");
                std::process::exit(3);
            }
            Some(_) | None => {}
        }
        let status = if ready { "200 OK" } else { "503 Service Unavailable" };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        // A client that left is no reason to stop serving.
        drop(stream.write_all(answer.as_bytes()).await);
    }
}
