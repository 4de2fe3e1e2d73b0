//! Rewrites `schema/generated`: `cargo run -p schema --example generate`.

fn main() -> std::io::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("generated");
    std::fs::create_dir_all(&folder)?;
    for (name, content) in schema::generated::files() {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(())
}
