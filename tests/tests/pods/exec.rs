//! `kubectl exec`.

use anyhow::ensure;
use cattle_tests::sha256;

use crate::object::idle;
use crate::rig::{PROGRAMS, with_rig};
use crate::terminal::{self, Terminal};

const MIB: usize = 1024 * 1024;

/// Command, exit code, and what is on the standard output.
const COMMANDS: [(&str, i32, &str); 6] = [
    ("echo out; echo err >&2", 0, "out\n"),
    ("echo out; echo err >&2; exit 3", 3, "out\n"),
    ("echo out; kill -9 $$", 137, "out\n"),
    ("exit 255", 255, ""),
    ("for i in $(seq 1 500); do echo out $i; echo err $i >&2; done", 0, "out 1\n"),
    ("cat; echo end", 0, "end\n"),
];

/// Lines that are refused, each with exit code 1.
const REFUSED: [&str; 5] =
    ["exec idle -- nope", "exec idle -c nope -- true", "exec nope -- true", "exec done -- true", "exec idle --"];

#[test]
fn commands_end_as_they_do_direct() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace("exec").await?;
        rig.apply("exec", &[idle("idle"), crate::object::pod("done", "true")]).await?;
        rig.wait("exec", "condition=Ready", &["pod/idle"]).await?;
        rig.wait("exec", "jsonpath={.status.phase}=Succeeded", &["pod/done"]).await?;
        for program in PROGRAMS {
            for (command, exit, out) in COMMANDS {
                let line = ["exec", "idle", "--", "sh", "-c", command];
                let seen = rig.same(program, "exec", &line, None, exit).await?;
                ensure!(seen.text().starts_with(out), "{program} {command}: {}", seen.text());
                ensure!(!seen.text().contains("err"), "{program} {command}: {}", seen.text());
                ensure!(seen.error().contains("err") == command.contains("err"), "{program} {}", seen.error());
            }
            for line in REFUSED {
                let words: Vec<&str> = line.split(' ').collect();
                let seen = rig.same(program, "exec", &words, None, 1).await?;
                ensure!(!seen.error().is_empty(), "{program} {line} says nothing");
            }
        }
        Ok(())
    })
}

#[test]
fn bytes_arrive_as_they_were_sent() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace("exec-bytes").await?;
        rig.apply("exec-bytes", &[idle("idle")]).await?;
        rig.wait("exec-bytes", "condition=Ready", &["pod/idle"]).await?;
        let bytes = random(5 * MIB)?;
        let sum = sha256(&bytes);
        for program in PROGRAMS {
            // There and back, with an end that arrives.
            let echo = ["exec", "-i", "idle", "--", "sh", "-c", "cat; echo end >&2"];
            let seen = rig.same(program, "exec-bytes", &echo, Some(&bytes), 0).await?;
            ensure!(seen.stdout == bytes, "{program}: {} other bytes came back", seen.stdout.len());
            ensure!(seen.error() == "end\n", "{program}: {}", seen.error());
            // There, while nothing comes back.
            let line = ["exec", "-i", "idle", "--", "sha256sum"];
            let seen = rig.same(program, "exec-bytes", &line, Some(&bytes), 0).await?;
            ensure!(seen.text() == format!("{sum}  -\n"), "{program}: {}", seen.text());
        }
        Ok(())
    })
}

#[test]
fn a_terminal_is_one() -> anyhow::Result<()> {
    with_rig(async |rig| {
        rig.namespace("exec-tty").await?;
        rig.apply("exec-tty", &[idle("idle")]).await?;
        rig.wait("exec-tty", "condition=Ready", &["pod/idle"]).await?;
        // The window's size arrives when it arrives.
        let wait = |size: &str| format!("until [ \"$(stty size 2>/dev/null)\" = \"{size}\" ]; do sleep 0.05; done");
        let script = format!(
            "[ -t 0 ] && [ -t 1 ] && echo a terminal; {}; echo small; {}; echo large; \
             read -r line; echo got $line; echo error >&2; exit 3",
            wait("33 77"),
            wait("44 99")
        );
        for program in PROGRAMS {
            let line = ["exec", "-it", "idle", "--", "sh", "-c", &script];
            let clients = rig.clients(program, "exec-tty", &line);
            let session = async |mut terminal: Terminal| {
                terminal.shows("small").await?;
                terminal.resize((44, 99)).await?;
                terminal.shows("large").await?;
                terminal.types("hello\r").await?;
                terminal.finish().await
            };
            let (screen, code) = terminal::same(&clients, (33, 77), session).await?;
            ensure!(code == Some(3), "{program}: {code:?} {screen}");
            let wanted = "a terminal\r\nsmall\r\nlarge\r\nhello\r\ngot hello\r\nerror\r\n";
            ensure!(screen.starts_with(wanted), "{program}: {screen:?}");

            let line = ["exec", "-it", "idle", "--", "sh", "-c", "echo waiting; sleep 1000; echo not here"];
            let session = async |mut terminal: Terminal| {
                terminal.shows("waiting").await?;
                terminal.types("\x03").await?;
                terminal.finish().await
            };
            let (screen, code) = terminal::same(&rig.clients(program, "exec-tty", &line), (33, 77), session).await?;
            ensure!(code == Some(130) && !screen.contains("not here"), "{program}: {code:?} {screen:?}");
        }
        Ok(())
    })
}

/// Bytes of every kind, in no order.
pub(crate) fn random(count: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}
