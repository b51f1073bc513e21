"""Predictions and later diagnoses."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("time", sa.DateTime(), nullable=False),
        sa.Column("image_digest", sa.String(64), nullable=False),
        sa.Column("model_digest", sa.String(80), nullable=False),
        sa.Column("client", sa.String(128), nullable=False),
        sa.Column("label", sa.String(200)),
        sa.Column("probabilities", sa.JSON()),
        sa.Column("decision", sa.String(200), nullable=False),
        sa.Column("set", sa.JSON(), nullable=False),
        sa.Column("flag", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("sensitivity", sa.Float()),
        sa.Column("prevalence", sa.Float()),
        sa.Column("error", sa.String(500)),
        sa.PrimaryKeyConstraint("id", name="pk_predictions"),
    )
    for column in ("time", "image_digest", "model_digest"):
        op.create_index(f"ix_predictions_{column}", "predictions", [column])
    op.create_table(
        "outcomes",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("prediction_id", sa.String(32), nullable=False),
        sa.Column("time", sa.DateTime(), nullable=False),
        sa.Column("label", sa.String(200), nullable=False),
        sa.Column("confirmed_by", sa.String(200), nullable=False),
        sa.ForeignKeyConstraint(["prediction_id"], ["predictions.id"], name="fk_outcomes_prediction_id"),
        sa.PrimaryKeyConstraint("number", name="pk_outcomes"),
    )
    op.create_index("ix_outcomes_prediction_id", "outcomes", ["prediction_id"])


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("outcomes")
    op.drop_table("predictions")
