"""The tables of the register."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(column_0_label)s",
    }
)

predictions = sa.Table(
    "predictions",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("request_id", sa.String(32), nullable=False),
    sa.Column("time", sa.DateTime, nullable=False, index=True),
    sa.Column("image_digest", sa.String(64), nullable=False, index=True),
    sa.Column("model_digest", sa.String(80), nullable=False, index=True),
    sa.Column("client", sa.String(128), nullable=False),
    sa.Column("label", sa.String(200)),
    sa.Column("probabilities", sa.JSON),
    sa.Column("decision", sa.String(200), nullable=False),
    sa.Column("set", sa.JSON, nullable=False),
    sa.Column("flag", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("scores", sa.JSON, nullable=False),
    sa.Column("sensitivity", sa.Float),
    sa.Column("prevalence", sa.Float),
    sa.Column("error", sa.String(500)),
)
"""A row for each image, in UTC: what came in, which model, and what it gave. The image itself is not here."""

outcomes = sa.Table(
    "outcomes",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("prediction_id", sa.String(32), sa.ForeignKey("predictions.id"), nullable=False, index=True),
    sa.Column("time", sa.DateTime, nullable=False),
    sa.Column("label", sa.String(200), nullable=False),
    sa.Column("confirmed_by", sa.String(200), nullable=False),
)
"""Later diagnoses, in UTC; of several for one prediction the last one counts."""
