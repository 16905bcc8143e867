//! Writes the samples of every message to where the fuzz targets begin: `corpus/<target>/`.

use std::fs;
use std::path::Path;

use cattle_proto::testing::DECODERS;

fn main() -> std::io::Result<()> {
    for decoder in DECODERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(decoder.name);
        fs::create_dir_all(&folder)?;
        for (number, frame) in (decoder.samples)().iter().enumerate() {
            fs::write(folder.join(format!("sample-{number}")), frame)?;
        }
    }
    Ok(())
}
