"""What keeps a question from being asked, or its answer from being read to its end.

    AskError
    +-- Unreachable   no relay answers at this address
    +-- Refused       the relay does not take the question
    +-- Lost          the answer had begun, and cannot be followed any more

An answer that fails is none of these: it is told in an `Error` event, behind the text that came.
"""


class AskError(Exception):
    """The root of all; its text is a sentence for a person."""


class Unreachable(AskError):
    """Nothing listens there, its name or certificate is not known, or what answers is no relay.

    The question was not asked.
    """


class Refused(AskError):
    """The relay refused the question before it asked AnythingLLM.

    `status` is the HTTP status, `code` what a program reads (docs/protocol.md, "Refusals"; empty where
    something else than the relay refused), `retry_after` after how many seconds asking again may help
    (None: not said).
    """

    def __init__(self, words: str, status: int, code: str, retry_after: float | None) -> None:
        super().__init__(words)
        self.status = status
        self.code = code
        self.retry_after = retry_after


class Lost(AskError):
    """The connection was lost for good, or what came over it could not be read.

    The events that came before have been told; whether the answer was finished is not known.
    """
