//! What is tried first when somebody guesses passwords.
//!
//! Whoever guesses has lists: common passwords and words, the names around the account, walks over the keyboard, runs and
//! repetitions, each with a few digits and the usual exchanges of letters. So all that is taken away, and what is left must
//! be worth something. Length is the business of another rule.

/// Parts of the passwords that leaks have most often, in small letters and without the exchanges that [`plain`] undoes.
const COMMON: &str = "\
    1q2w3e4r5t6y q1w2e3r4t5y6 1qaz2wsx3edc zaq12wsx 1qaz2wsx 1q2w3e4r q1w2e3r4 qazwsxedc zaqwsx qazwsx \
    trustno1 trustnoone iloveyou loveyou lovely letmein changeme changeit change password passwort \
    motdepasse contrasena passphrase passwd pass word secret geheim login welcome willkommen bienvenue hello \
    hallo bonjour whatever nothing default initial temporary temp test testing demo guest user username \
    administrator admin root superuser master operator manager service system access private security secure \
    internet computer server network cloud cluster docker container kubernetes kubectl rancher cattle \
    company office business production staging monkey dragon shadow sunshine princess football baseball \
    basketball soccer hockey superman batman spiderman pokemon starwars michael jordan charlie thomas daniel \
    jessica ashley andrew joshua matthew hunter killer freedom flower cheese chocolate cookie butterfly \
    purple orange summer sommer winter spring autumn january february march april june july august september \
    october november december monday tuesday wednesday thursday friday saturday sunday \
    correcthorsebatterystaple qwerty qwertz azerty blahblah foobar abc xyz";
/// Rows of keyboards; runs in them and in the alphabet are walks.
const ROWS: &[&str] =
    &["qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "qsdfghjklm", "zxcvbnm", "yxcvbnm", "1234567890"];
/// The shortest run or walk that is taken for one.
const RUN: usize = 3;
/// What must be left: a letter is worth two, a digit one. Four unknown letters are more than a million guesses.
const ENOUGH: usize = 8;

/// Whether the password is among the first million guesses. `names` are those around the account.
pub(super) fn is_guessable<'a>(password: &str, names: impl IntoIterator<Item = &'a str>) -> bool {
    let mut known: Vec<String> = COMMON.split(' ').map(str::to_owned).collect();
    for name in names {
        let parts = name.split(|character: char| !character.is_alphanumeric()).chain([name]);
        known.extend(parts.flat_map(|part| [plain(part), bare(part)]).filter(|part| part.chars().count() >= RUN));
    }
    let backwards: Vec<String> = known.iter().map(|word| word.chars().rev().collect()).collect();
    known.extend(backwards);
    // The longest first: what is left of a word that was found in pieces would count.
    known.sort_by_key(|word| std::cmp::Reverse(word.len()));
    // Both readings: `1` is a digit of a number or stands for a letter.
    [plain(password), bare(password)].iter().any(|reading| worth(reading, &known) < ENOUGH)
}

/// Small letters and digits only, with the usual exchanges undone.
fn plain(text: &str) -> String {
    let exchange = |character| match character {
        '0' => 'o',
        '1' | '!' | '|' => 'i',
        '3' | '€' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    };
    bare(&text.chars().map(exchange).collect::<String>())
}

/// Small letters and digits only.
fn bare(text: &str) -> String {
    text.to_lowercase().chars().filter(|character| character.is_alphanumeric()).collect()
}

fn worth(text: &str, known: &[String]) -> usize {
    // What stays in the place of a word keeps its neighbours from becoming one.
    const GONE: char = ' ';
    let text = known.iter().fold(once(text), |text, word| text.replace(word.as_str(), " "));
    let characters: Vec<char> = text.chars().collect();
    let mut worth = 0;
    let mut rest = characters.as_slice();
    while let [first, ..] = rest {
        let run = run(rest);
        let counted = if run >= RUN { 1 } else { run };
        worth += match first {
            &GONE => 0,
            digit if digit.is_ascii_digit() => counted,
            _ => 2 * counted,
        };
        rest = &rest[run..];
    }
    worth
}

/// A text that is another one over and over is worth that one.
fn once(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let unit = (1..=characters.len() / 2).find(|unit| {
        let mut again = characters.iter().zip(characters.iter().skip(*unit));
        again.all(|(one, other)| one == other)
    });
    unit.map_or_else(|| text.to_owned(), |unit| characters[..unit].iter().collect())
}

/// How many characters at the beginning go on as the first two do: the same again, or up or down the alphabet, the digits
/// or a row of the keyboard. One when they do not.
fn run(text: &[char]) -> usize {
    let [first, second, ..] = text else { return 1 };
    let along = |step: fn(char, char) -> bool| 1 + text.windows(2).take_while(|pair| step(pair[0], pair[1])).count();
    let steps: [fn(char, char) -> bool; 4] = [
        |one, other| one == other,
        |one, other| follows(one, other),
        |one, other| follows(other, one),
        |one, other| is_beside(one, other),
    ];
    let longest = steps.into_iter().filter(|step| step(*first, *second)).map(along).max().unwrap_or(1);
    if longest >= RUN { longest } else { 1 }
}

fn follows(one: char, other: char) -> bool {
    one.is_alphanumeric() && u32::from(one) + 1 == u32::from(other)
}

fn is_beside(one: char, other: char) -> bool {
    ROWS.iter().any(|row| {
        let at = |character| row.find(character);
        at(one).zip(at(other)).is_some_and(|(one, other)| one.abs_diff(other) == 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["annabelle-smith", "Ann B. Smith-Carpenter", "herd.acme-farms.example", "Zoë"];

    #[test]
    fn what_is_guessed_first_is_known() {
        for easy in [
            "password1234",
            "Password123!",
            "p@ssw0rd1234",
            "Passw0rd!Passw0rd!",
            "123456789012",
            "111111222222",
            "qwertyuiop123",
            "qwertzuiop!2026",
            "1q2w3e4r5t6y",
            "poiuytrewq12",
            "abcdefghijklmn",
            "zyxwvutsrqpo",
            "aaaaaaaaaaaaaaaa",
            "abababababab",
            "abcabcabcabc",
            "adminadminadmin",
            "Administrator1",
            "changeme1234",
            "letmeinletmein",
            "Welcome12345",
            "I love you 1234",
            "Summer2026!!!",
            "monkey-dragon-99",
            "Annabelle-Smith",
            "annabelle-smith1",
            "htims-ellebanna",
            "SmithCarpenter",
            "Smith.Carpenter.77",
            "herd.acme-farms.example",
            "AcmeFarms2026",
            "kubernetes123",
            "rancher-admin",
            "cattle-cluster-1",
            "correct horse battery staple",
            "    ",
        ] {
            assert!(is_guessable(easy, NAMES), "{easy}");
        }
    }

    #[test]
    fn what_nobody_guesses_is_not() {
        for fine in [
            "correct horse",
            "correct-horse-staple-battery",
            "annabelle keeps 3 goats",
            "пароль из трёх слов",
            "owner-and-a-long-password",
            "837465019283",
            "kW8vT2zRq9Lm",
            "password of a green tractor",
            "蛙が池に飛び込んだ昨日",
        ] {
            assert!(!is_guessable(fine, NAMES), "{fine}");
        }
    }

    #[test]
    fn runs_and_repetitions_are_worth_little() {
        let run = |text: &str| run(&text.chars().collect::<Vec<_>>());
        assert_eq!(
            (run("abcdx"), run("dcba"), run("aaab"), run("qwex"), run("ab"), run("a"), run("xkcd")),
            (4, 4, 3, 3, 1, 1, 1)
        );
        assert_eq!((once("ababab").as_str(), once("abababa").as_str(), once("abc").as_str()), ("ab", "ab", "abc"));
    }
}
