"""`msksam cache`: the embeddings kept on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Show, verify and prune the cache of embeddings and placements.")

FolderOption = Annotated[Path | None, typer.Option("--cache", help="Folder of the cache, if not the default one.")]


@app.command("info")
def info_(cache: FolderOption = None) -> None:
    """Show how many embeddings and placements are kept and how large they are."""
    from msksam_cli.pipeline.cache import open_cache, open_results

    store, sizes = open_cache(cache), open_results(cache).sizes()
    summary = store.summary()
    typer.echo(f"{store.root}: {summary.entries} embeddings, {summary.size_bytes / 1024**2:.1f} MiB")
    typer.echo(f"{len(sizes)} fits and placements of atlases, {sum(sizes) / 1024**2:.1f} MiB")


@app.command()
def verify(cache: FolderOption = None) -> None:
    """Read every entry; delete those that are broken."""
    from msksam_cli.pipeline.cache import verify_cache

    check = verify_cache(cache)
    typer.echo(f"{check.intact} entries intact, {check.removed} broken and removed")


@app.command()
def prune(
    cache: FolderOption = None,
    older_than: Annotated[
        float | None, typer.Option(min=0, help="Remove what was not used for this many days.")
    ] = None,
    max_size: Annotated[str, typer.Option(help="Then remove the least recently used above this size, as 20G.")] = "",
) -> None:
    """Remove entries: by age, embeddings also by size, or all of them when neither is given."""
    from msksam_cli.pipeline.cache import prune_cache

    removed = prune_cache(cache, older_than_days=older_than, max_size=max_size)
    typer.echo(f"removed {removed.entries} entries, {removed.size_bytes / 1024**2:.1f} MiB")
