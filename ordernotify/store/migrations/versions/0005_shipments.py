"""Shipments, what their carriers said, and how often carriers were asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shipment",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("tracking_no", sa.Text(), nullable=False),
        sa.Column("carrier", sa.Text(), server_default="", nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_question_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tries", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("followed_by", sa.Text(), server_default="", nullable=False),
        sa.Column("follow_again_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stage", sa.Text(), server_default="label", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("status_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("version", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("order_id", "tracking_no"),
    )
    op.create_index("shipment_number", "shipment", ["tracking_no"])
    op.create_index(
        "shipment_unplaced",
        "shipment",
        ["tracking_no"],
        unique=True,
        postgresql_where=sa.text("order_id IS NULL"),
    )
    op.create_index(
        "shipment_due",
        "shipment",
        ["next_question_at"],
        postgresql_where=sa.text("next_question_at IS NOT NULL"),
    )
    op.create_table(
        "tracking_event",
        sa.Column("shipment_id", sa.Uuid(), nullable=False),
        sa.Column("carrier", sa.Text(), nullable=False),
        sa.Column("known_by", sa.Text(), nullable=False),
        sa.Column("raw_code", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.Column("estimated_delivery", sa.Date(), nullable=True),
        sa.Column("care", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), server_default="", nullable=False),
        sa.Column("title", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(["shipment_id"], ["shipment.id"]),
        sa.PrimaryKeyConstraint("shipment_id", "carrier", "known_by", "raw_code"),
    )
    op.create_table(
        "carrier_use",
        sa.Column("carrier", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("slot", sa.DateTime(timezone=True), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("carrier", "seconds", "slot"),
    )


def downgrade() -> None:
    raise NotImplementedError("the store only moves forward: restore a backup instead")
