//! Commands that work on the data directory and end.

use std::{
    io::{self, BufRead, Write},
    sync::Arc,
};

use anyhow::{Context, bail};
use cattle_api::{
    Secret,
    ext::{Kubeconfig, Token},
    management::ClusterRegistrationToken,
};
use cattle_auth::{Passwords, bootstrap};
use cattle_store::{SqliteStore, Store, Typed, sqlite};
use kube::ResourceExt;

use crate::args::{BackupArgs, DataDirArgs, RestoreArgs};

/// The shortest passphrase for the exported key, in characters.
const MIN_PASSPHRASE: usize = 12;

pub(super) async fn backup(args: &BackupArgs) -> anyhow::Result<()> {
    let passphrase = passphrase(args.passphrase_stdin, true)?;
    let args = args.clone();
    let info = tokio::task::spawn_blocking(move || {
        let info = sqlite::backup(&args.data.data_dir, &args.output).context("the data cannot be copied")?;
        sqlite::export_keys(&args.data.data_dir, &passphrase, &args.key_output)
            .context("the key cannot be exported")?;
        anyhow::Ok(info)
    })
    .await??;
    say(&format!("backup done: {info:?}\nKeep the key file and the copy apart."));
    Ok(())
}

pub(super) async fn restore(args: &RestoreArgs) -> anyhow::Result<()> {
    let passphrase = passphrase(args.passphrase_stdin, false)?;
    let (data_dir, revoke) = (args.data.data_dir.clone(), args.revoke_tokens);
    let args = args.clone();
    let info = tokio::task::spawn_blocking(move || {
        sqlite::restore(&args.data.data_dir, &args.input, &args.key_input, &passphrase)
            .context("the backup cannot be restored")
    })
    .await??;
    say(&format!("restored: {info:?}"));
    if revoke {
        let (tokens, registrations) = revoke_all(&(Arc::new(SqliteStore::open(&data_dir)?) as Arc<dyn Store>)).await?;
        say(&format!("{tokens} tokens were revoked; everybody signs in anew, and makes new kubeconfigs"));
        say(&format!("{registrations} registration tokens were revoked; connected clusters do not need theirs"));
    } else {
        say("Tokens that were revoked after the backup was taken are good again; --revoke-tokens ends them all.");
    }
    Ok(())
}

pub(super) async fn reset_admin(args: &DataDirArgs) -> anyhow::Result<()> {
    if !args.data_dir.is_dir() {
        bail!("{} is no data directory", args.data_dir.display());
    }
    let store =
        SqliteStore::open(&args.data_dir).context("the data directory cannot be used; is the server running?")?;
    let admin = bootstrap::reset_admin(&store, &Passwords::new()).await?;
    let password = admin.password.expose_str().unwrap_or_default();
    say(&format!("administrator: {}\npassword:      {password}\nThe next login changes it.", admin.username));
    Ok(())
}

/// Ends every credential that a backup brings back: sign-ins and kubeconfigs, and what registers clusters. Gives how many.
async fn revoke_all(store: &Arc<dyn Store>) -> anyhow::Result<(usize, usize)> {
    let tokens = Typed::<Token>::new(Arc::clone(store));
    let (signed_in, _) = tokens.list(None).await?;
    for token in &signed_in {
        tokens.delete(None, &token.name_any()).await?;
    }
    let kubeconfigs = Typed::<Kubeconfig>::new(Arc::clone(store));
    for kubeconfig in &kubeconfigs.list(None).await?.0 {
        kubeconfigs.delete(None, &kubeconfig.name_any()).await?;
    }
    let registrations = Typed::<ClusterRegistrationToken>::new(Arc::clone(store));
    let (registering, _) = registrations.list(None).await?;
    for token in &registering {
        registrations.delete(token.namespace().as_deref(), &token.name_any()).await?;
    }
    Ok((signed_in.len(), registering.len()))
}

fn passphrase(from_stdin: bool, new: bool) -> anyhow::Result<Secret> {
    let text = if from_stdin {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).context("standard input cannot be read")?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        rpassword::prompt_password("Passphrase of the key: ").context("no terminal; use --passphrase-stdin")?
    };
    if new && text.chars().count() < MIN_PASSPHRASE {
        bail!("the passphrase must have at least {MIN_PASSPHRASE} characters");
    }
    if new && !from_stdin && rpassword::prompt_password("Again: ")? != text {
        bail!("the two passphrases differ");
    }
    Ok(Secret::from(text))
}

/// A command's result is for standard output; the log is for standard error.
fn say(text: &str) {
    // A closed pipe is the reader's decision.
    let _ = writeln!(io::stdout(), "{text}");
}
