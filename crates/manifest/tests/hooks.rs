//! Targets behind a webhook or a command: what is accepted, what is refused, and in which words.

use std::{path::PathBuf, time::Duration};

use forewarm_manifest::{
    CheckedScaler, ExecTarget, SecretRef, Target, WebhookTarget, convert::Form, read_scalers,
};

fn manifest(target: &str) -> String {
    format!(
        "\
apiVersion: forewarm.dev/v1alpha1
kind: InferenceScaler
metadata: {{name: llama3}}
spec:
  target:
    {target}
  replicas: {{min: 1, max: 8}}
  policy: {{queueDepth: {{}}}}
"
    )
}

fn read_one(target: &str) -> CheckedScaler {
    read_scalers("f.yaml", &manifest(target)).unwrap_or_else(|problems| panic!("{problems}")).remove(0)
}

#[test]
fn a_webhook_and_a_command_arrive_and_are_written_again() {
    let https = read_one("webhook: {url: https://hooks.example.com/gpus, secret: {fromEnv: HOOK_SECRET}}");
    let expected = WebhookTarget {
        url: "https://hooks.example.com/gpus".into(),
        secret: SecretRef::Env("HOOK_SECRET".into()),
        timeout: Duration::from_secs(10),
        ca_file: None,
        allow_insecure: false,
    };
    assert_eq!(https.target, Target::Webhook(expected));
    let all = read_one(
        "webhook: {url: 'http://10.0.0.5/', secret: {fromFile: /run/secrets/hook}, timeout: 3s, caFile: ca.pem, allowInsecure: true}",
    );
    let expected = WebhookTarget {
        url: "http://10.0.0.5/".into(),
        secret: SecretRef::File("/run/secrets/hook".into()),
        timeout: Duration::from_secs(3),
        ca_file: Some(PathBuf::from("ca.pem")),
        allow_insecure: true,
    };
    assert_eq!(all.target, Target::Webhook(expected));
    let exec = read_one("exec: {command: [./fleet.py, --pool, h100]}");
    let expected = ExecTarget {
        command: vec!["./fleet.py".into(), "--pool".into(), "h100".into()],
        env: [].into(),
        pass_env: vec!["PATH".into(), "HOME".into()],
        working_dir: None,
        timeout: Duration::from_secs(30),
    };
    assert_eq!(exec.target, Target::Exec(expected));
    let full = read_one(
        "exec: {command: [fleet], env: {REGION: eu}, passEnv: [AWS_PROFILE], workingDir: /srv, timeout: 2m}",
    );
    for scaler in [https, all, exec, full] {
        let yaml = scaler.to_yaml().expect("yaml");
        assert_eq!(read_scalers("f", &yaml).expect(&yaml), [scaler]);
    }
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    let secret = "secret: {fromEnv: HOOK_SECRET}";
    let cases = [
        (format!("webhook: {{{secret}}}"), "webhook.url", "https://"),
        ("webhook: {url: 'https://h/'}".into(), "webhook.secret", "{fromEnv: NAME} or {fromFile: PATH}"),
        ("webhook: {url: 'https://h/', secret: swordfish}".into(), "webhook.secret", "a mapping"),
        (
            "webhook: {url: 'https://h/', secret: {fromEnv: A, fromFile: b}}".into(),
            "webhook.secret",
            "exactly one of fromEnv, fromFile",
        ),
        (format!("webhook: {{url: 'http://h/', {secret}}}"), "webhook.url", "`allowInsecure: true`"),
        (format!("webhook: {{url: 'http://127.0.0.1.h/', {secret}}}"), "webhook.url", "https://"),
        (format!("webhook: {{url: h, {secret}}}"), "webhook.url", "begins with https://"),
        (format!("webhook: {{url: 'https://', {secret}}}"), "webhook.url", "begins with https://"),
        (format!("webhook: {{url: 'https://me:pw@h/', {secret}}}"), "webhook.url", "credentials"),
        (format!("webhook: {{url: 'https://h/', {secret}, timeout: 0s}}"), "webhook.timeout", "above zero"),
        (
            format!("webhook: {{url: 'https://h/', {secret}, cafile: x}}"),
            "webhook.cafile",
            "did you mean `caFile`",
        ),
        ("exec: {command: ./fleet.py}".into(), "exec.command", "a list"),
        ("exec: {command: []}".into(), "exec.command", "the program and its arguments"),
        ("exec: {command: [fleet], passEnv: PATH}".into(), "exec.passEnv", "a list"),
    ];
    for (target, path, words) in cases {
        let problems = read_scalers("f.yaml", &manifest(&target)).expect_err(&target);
        assert_eq!(problems.list.len(), 1, "{target}: {problems}");
        assert_eq!(problems.list[0].path, format!("spec.target.{path}"), "{target}");
        assert!(problems.to_string().contains(words), "{target}: {problems}");
    }
    for url in ["http://127.0.0.1:8000/x", "http://[::1]:80", "http://localhost:8000"] {
        read_one(&format!("webhook: {{url: '{url}', {secret}}}"));
    }
}

#[test]
fn no_other_form_has_such_a_target() {
    let text = manifest("exec: {command: [fleet]}");
    let problems =
        forewarm_manifest::convert::convert("f.yaml", &text, Form::Hpa).expect_err("no place for it");
    assert!(problems.to_string().contains("a target that no other form has"), "{problems}");
    let same = forewarm_manifest::convert::convert("f.yaml", &text, Form::InferenceScaler).expect("as it is");
    assert_eq!(same.len(), 1);
}
