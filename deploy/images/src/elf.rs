use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::image::Architecture;

/// The bytes at the start of a binary in which its program headers are looked for.
const HEAD_BYTES: u64 = 64 * 1024;
const PT_INTERP: u32 = 3;
const EM_X86_64: u16 = 62;
const EM_AARCH64: u16 = 183;

/// What a program file needs of the machine that runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executable {
    architecture: Architecture,
}

/// Why a file cannot be the program of a `FROM scratch` image.
#[derive(Debug, thiserror::Error)]
pub enum ExecutableError {
    /// It cannot be read.
    #[error("the program cannot be read")]
    Read(#[from] std::io::Error),
    /// It is no little-endian 64-bit ELF file.
    #[error("this is no 64-bit Linux program")]
    NotElf,
    /// Built for a processor that no image is made for.
    #[error("the program is for another processor (ELF machine {0})")]
    Machine(u16),
    /// It asks for a dynamic loader, which an empty image does not have.
    #[error("the program is not static: an image without a dynamic loader cannot start it")]
    Dynamic,
}

impl Executable {
    /// Looks into a program file.
    ///
    /// # Errors
    /// When the file is not a static 64-bit program for a known [`Architecture`].
    pub fn inspect(path: &Path) -> Result<Self, ExecutableError> {
        let mut head = Vec::new();
        File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
        Self::parse(&head)
    }

    /// The processor it runs on.
    pub fn architecture(self) -> Architecture {
        self.architecture
    }

    fn parse(head: &[u8]) -> Result<Self, ExecutableError> {
        if head.get(..6) != Some(&[0x7f, b'E', b'L', b'F', 2, 1]) {
            return Err(ExecutableError::NotElf);
        }
        let architecture = match u16_at(head, 18)? {
            EM_X86_64 => Architecture::Amd64,
            EM_AARCH64 => Architecture::Arm64,
            other => return Err(ExecutableError::Machine(other)),
        };
        let table = usize::try_from(u64_at(head, 32)?).map_err(|_| ExecutableError::NotElf)?;
        let (size, count) = (u16_at(head, 54)?, u16_at(head, 56)?);
        for index in 0..count {
            let offset = usize::from(index) * usize::from(size);
            let entry = table.checked_add(offset).ok_or(ExecutableError::NotElf)?;
            if u32_at(head, entry)? == PT_INTERP {
                return Err(ExecutableError::Dynamic);
            }
        }
        Ok(Self { architecture })
    }
}

fn bytes_at<const N: usize>(head: &[u8], at: usize) -> Result<[u8; N], ExecutableError> {
    head.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().ok_or(ExecutableError::NotElf)
}

fn u16_at(head: &[u8], at: usize) -> Result<u16, ExecutableError> {
    Ok(u16::from_le_bytes(bytes_at(head, at)?))
}

fn u32_at(head: &[u8], at: usize) -> Result<u32, ExecutableError> {
    Ok(u32::from_le_bytes(bytes_at(head, at)?))
}

fn u64_at(head: &[u8], at: usize) -> Result<u64, ExecutableError> {
    Ok(u64::from_le_bytes(bytes_at(head, at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16, segments: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1]);
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
        bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
        bytes[56..58].copy_from_slice(&u16::try_from(segments.len()).unwrap().to_le_bytes());
        for kind in segments {
            let mut segment = [0; 56];
            segment[..4].copy_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(&segment);
        }
        bytes
    }

    #[test]
    fn a_static_program_names_its_processor() {
        assert_eq!(Executable::parse(&elf(62, &[1, 1])).unwrap().architecture(), Architecture::Amd64);
        assert_eq!(Executable::parse(&elf(183, &[1])).unwrap().architecture(), Architecture::Arm64);
    }

    #[test]
    fn dynamic_foreign_and_broken_files_are_refused_by_name() {
        assert!(matches!(Executable::parse(&elf(62, &[1, PT_INTERP])), Err(ExecutableError::Dynamic)));
        assert!(matches!(Executable::parse(&elf(40, &[1])), Err(ExecutableError::Machine(40))));
        assert!(matches!(Executable::parse(b"#!/bin/sh\n"), Err(ExecutableError::NotElf)));
        let whole = elf(62, &[1, 1]);
        for length in 0..whole.len() - 56 {
            assert!(matches!(Executable::parse(&whole[..length]), Err(ExecutableError::NotElf)), "cut at {length}");
        }
    }

    #[test]
    fn this_test_is_a_static_program_itself() {
        let this = std::env::current_exe().unwrap();
        Executable::inspect(&this).expect("tests are built static like everything else");
    }
}
