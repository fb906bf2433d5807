"""Commits as tests make them: one part with all its rows, where a run gathers the parts of several slices (`pipelines.run.commit_parts`)."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from resources.part import Commit, Part, Table


def commit_of(table: Table, part: Part, rows: pl.DataFrame, children: Mapping[str, pl.DataFrame]) -> Commit:
    """A commit of one part, with which all the rows came."""
    return Commit(table, rows.with_columns(pl.lit(part.slice_id).alias("slice_id")), children, (part,))
