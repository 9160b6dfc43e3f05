"""`regent diff LEFT RIGHT`: what two models, or two recordings, do differently.

Exit codes: 0 same · 1 different · 3 inconclusive · 2 could not run (one line says what and how
to mend it).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from regent.errors import one_line

app = typer.Typer()

_CODES = {"same": 0, "different": 1, "inconclusive": 3}
Side = Annotated[str, typer.Argument(help="A model name, or a JSONL file of recorded responses.")]


@app.command()
def diff(
    left: Side,
    right: Side,
    tolerance: Annotated[
        float, typer.Option(help="The largest shift in share that counts as same.")
    ] = 0.10,
    alpha: Annotated[float, typer.Option(help="Error of each statement.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, the draws and exchanges.")] = 0,
    prompts: Annotated[int, typer.Option(min=16, help="Most prompts to count on (models).")] = 240,
    samples: Annotated[int, typer.Option(min=1, help="Responses a prompt and side (models).")] = 2,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens a response (models).")] = 64,
    approvals: Annotated[
        bool, typer.Option(help="Also which of 216 statements each side approves (models).")
    ] = False,
    personas: Annotated[
        bool, typer.Option(help="Approvals about itself under ten personas too; some minutes.")
    ] = False,
    written: Annotated[
        int, typer.Option(min=0, help="Prompts that each model writes, to find behaviours on.")
    ] = 0,
    adaptive: Annotated[
        bool, typer.Option(help="Ask more where the sides part, to find behaviours on.")
    ] = False,
    atlas: Annotated[
        Path | None, typer.Option(help="Behaviours kept for a lineage; made where it is missing.")
    ] = None,
    inside: Annotated[
        bool, typer.Option(help="Also compare next tokens, where both sides have weights.")
    ] = False,
    judge: Annotated[
        str, typer.Option(help="A model that says in words what differs; only what survives stays.")
    ] = "",
    html: Annotated[
        Path | None, typer.Option(help="Also write one self-contained page to this file.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where models' answers are kept for the next diff.")
    ] = Path(".regent-diff"),
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")
    ] = False,
) -> None:
    """What differs between two models (or recordings), without being told what to look for."""
    with one_line():
        from regent.errors import CannotRun
        from regent.models.embedder import shared_embedder
        from regent.models.speaker import Sampling
        from supervisor.diffing.atlas import behaviours, draw_atlas, read_atlas, write_atlas
        from supervisor.diffing.comparison import pair
        from supervisor.diffing.concerns import scales
        from supervisor.diffing.difference import difference, split
        from supervisor.diffing.hypotheses import hypotheses
        from supervisor.diffing.page import page, response_map
        from supervisor.diffing.report import as_fields, inside_fields, judge_fields, show
        from supervisor.diffing.sides import (
            Ask,
            approved,
            is_file,
            looked_inside,
            looks,
            refuse_inside,
        )
        from supervisor.naming import Voices

        if not (0 < tolerance < 1 and 0 < alpha < 1):
            raise CannotRun(f"tolerance {tolerance} and alpha {alpha} must lie between 0 and 1")
        for file in filter(None, (html, atlas)):
            if not file.parent.is_dir():
                raise CannotRun(
                    f"{file}: there is no folder {file.parent}; make it, or name another"
                )
            if file.is_dir():
                raise CannotRun(f"{file} is a folder; name a file in it")
        if inside:
            refuse_inside(left, right)
        regions = read_atlas(atlas) if atlas is not None and atlas.exists() else None
        said = approved(left, right, seed, personas) if approvals or personas else None
        progress = Console(stderr=True)
        if not (is_file(left) and is_file(right)):
            progress.print("asking; two models take some minutes on two cores", style="dim")
        voices = Voices(folder / "logs")
        ask = Ask(
            prompts=prompts,
            samples=samples,
            how=Sampling(max_tokens, 1.0),
            written=written,
            adaptive=adaptive,
        )
        embed = shared_embedder(250_000).embed
        found, look, pool, told, seen = None, None, None, None, None
        try:
            critic = voices.speaker(judge) if judge else None
            for look in looks(left, right, voices.speaker, ask, seed, folder, embed):
                told_so_far = f"{len(look.left)} prompts answered by both sides; comparing"
                progress.print(told_so_far, style="dim")
                if inside and seen is None:
                    seen = looked_inside(left, right, look, embed, seed)
                pool = pair(look.left, look.right, embed, sentences=True)
                if atlas is not None and regions is None:
                    regions = draw_atlas(pool.part(split(pool, look.discovery, seed)[0]))
                    write_atlas(regions, atlas)
                found = difference(
                    pool,
                    tolerance=tolerance,
                    alpha=alpha,
                    seed=seed,
                    discovery=look.discovery,
                    horizon=look.horizon,
                    scales=scales(embed),
                    extra=[*(seen[1] if seen else ()), *behaviours(regions or ())],
                    sought=look.sought,
                )
                if look.last or found.verdict != "inconclusive":
                    break
            if found is None or look is None or pool is None:
                raise CannotRun("nothing was compared")
            if critic is not None:
                find_on, count_on = split(pool, look.discovery, seed)
                progress.print(f"{judge} is asked what differs", style="dim")
                told = hypotheses(
                    critic,
                    pool.part(find_on),
                    pool.part(count_on),
                    seed,
                    alpha=alpha,
                )
        finally:
            voices.close()
        notes = [*look.notes]
        if not judge:
            notes.append("No judge: what differs is not put into sentences (--judge MODEL).")
        fields = as_fields(found, left, right, look.tokens, notes, scales(embed))
        if told is not None:
            fields["judge"] = judge_fields(told) | {"name": judge}
        if seen is not None:
            fields["inside"] = inside_fields(seen[0])
        if said is not None:
            fields["approvals"] = said
        if html is not None:
            try:
                html.write_text(page(fields, response_map(pool, seed)), "utf-8")
                progress.print(f"the page: {html}", style="dim")
            except OSError as error:
                fields["notes"].append(f"{html}: no page was written ({error.strerror or error})")
        if as_json:
            typer.echo(json.dumps(fields, ensure_ascii=False))
        else:
            Console().print(show(fields))
        raise typer.Exit(_CODES[found.verdict])
