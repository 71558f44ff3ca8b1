"""The sections of a monitor's recipe."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    field_validator,
    model_validator,
)

from peftlab.applications.monitor.times import zone_of
from peftlab.core.address import is_loopback
from peftlab.core.config import Config

WebhookVariable = Annotated[str, StringConstraints(pattern=r"^PEFTLAB_WEBHOOK_[A-Z0-9_]+$")]
MailVariable = Annotated[str, StringConstraints(pattern=r"^PEFTLAB_MAIL_[A-Z0-9_]+$")]
"""A recipe may come from a stranger, and names the server too: no other secret of the environment may go there."""


class Posts(Config):
    """The table of labelled texts that the two adapters learn from, and on whose last part all is judged."""

    source: str = Field(min_length=1, description="A file, starting at the recipe, or pypi:DIST==VERSION/PATH.")
    encoding: str = Field("utf-8", description="Character encoding of the file.")
    text: str = Field("text", description="The column of the text.")
    time: str | None = Field(
        "time", description="The column of the time. null: times are made, over `made_days` days; for trying it out."
    )
    made_days: PositiveInt = Field(28, ge=4, le=3660, description="Days over which made times are spread.")
    stream: str | None = Field(
        None, description="The column that says of whom a text speaks, such as the airline. null: all are one stream."
    )
    sentiment: str = Field("sentiment", description="The column of the sentiment.")
    topic: str | None = Field(
        "topic", description="The column of the topic; where it is empty, a text teaches no topic."
    )
    topic_words: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Instead of a column of topics: words that give a text a topic; the first that fits. `other` where "
        "none does.",
    )
    ignored_topics: list[str] = Field(
        default_factory=list, description="Topics that say nothing, such as `Can't Tell`: none of them is learned."
    )
    test_from: str | None = Field(
        None, description="Texts from this time on are held out. null: the last `test_fraction`."
    )
    test_fraction: float = Field(0.3, gt=0, lt=1, description="Share of the texts that is held out: the last ones.")
    max_train_texts: PositiveInt | None = Field(None, description="The most texts to learn from, drawn by the seed.")


class Watch(Config):
    """What raises an alarm."""

    sentiment: str = Field("negative", description="Texts of this sentiment are counted.")
    false_alarms_a_month: PositiveFloat = Field(
        4.0, le=30, description="Alarms that each stream may raise in a month in which nothing happens."
    )
    topic_false_alarms_a_month: NonNegativeFloat = Field(
        2.0, le=30, description="The same for its topics, all of them together. 0: topics raise none."
    )
    discount: float = Field(
        0.98, gt=0, lt=1, description="What is known of the level is kept by this share each hour: 0.98 is 50 hours."
    )
    least_voices: PositiveInt = Field(5, description="An hour with fewer voices raises no alarm, however seldom it is.")
    smoothing: NonNegativeFloat = Field(
        2.0, le=6, description="Standard deviation, in hours, by which the daily course is smoothed."
    )
    zone: str = Field(
        "UTC", description="By whose clocks people live, such as Europe/Berlin: the daily course moves with them."
    )

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, name: str) -> str:
        zone_of(name)
        return name


class Webhook(Config):
    """Where alarms are sent, as JSON by POST, signed by HMAC-SHA256."""

    url: str = Field(pattern=r"^https?://[^\s]+$", description="Its address.")
    secret_variable: WebhookVariable = Field(
        "PEFTLAB_WEBHOOK_SECRET",
        description="The environment variable that holds the secret of the signature: PEFTLAB_WEBHOOK_….",
    )
    timeout_seconds: PositiveFloat = Field(10.0, le=60, description="An attempt that takes longer has failed.")


class Mail(Config):
    """To whom alarms are mailed."""

    host: str = Field(description="The SMTP server.")
    port: PositiveInt = Field(587, le=65535, description="Its port.")
    sender: str = Field(description="From whom.")
    to: list[str] = Field(min_length=1, description="To whom.")
    start_tls: bool = Field(True, description="Encrypt. false: only for a server on this machine.")
    user: str | None = Field(None, description="To log in with.")
    password_variable: MailVariable = Field(
        "PEFTLAB_MAIL_PASSWORD", description="The environment variable of the password: PEFTLAB_MAIL_…."
    )

    @model_validator(mode="after")
    def _hides_password(self) -> Mail:
        if self.user is not None and not self.start_tls and not is_loopback(self.host):
            raise ValueError("the password would go over the network for all to read: `start_tls: true` is needed")
        return self


class Retention(Config):
    """How long what came in is kept. What is watched for surges needs texts of a week, and hours of nine."""

    texts_days: PositiveInt | None = Field(
        None, ge=7, description="Texts, refused rows and sent messages are deleted after so many days. null: never."
    )
    series_days: PositiveInt | None = Field(
        None, ge=63, description="Counted hours and alarms are deleted after so many days. null: never."
    )


class Destinations(Config):
    """Where alarms go, besides the page."""

    webhook: Webhook | None = None
    mail: Mail | None = None

    def in_words(self) -> str | None:
        """Who gets the alarms, and the texts with them; None: nobody."""
        # Of the address the host alone: what comes behind it is a secret with many services.
        told = [f"by POST to {urlsplit(self.webhook.url).hostname}"] if self.webhook is not None else []
        told += [f"by mail to {', '.join(self.mail.to)} over {self.mail.host}"] if self.mail is not None else []
        return f"alarms, with texts, go out {' and '.join(told)}" if told else None

    def channels(self) -> dict[str, Any]:
        """Those that are set, by name."""
        return {name: found for name in ("webhook", "mail") if (found := getattr(self, name)) is not None}
