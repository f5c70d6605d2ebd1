"""The exception tree of Headstart. Imports nothing of the project.

    HeadstartError
    ├── InputError                 one input cannot be used
    │   ├── EmptyInputError        no bytes
    │   ├── UnsupportedImageError  not an image, or a format that is not read
    │   ├── TruncatedImageError    an image that ends early or is damaged inside
    │   └── ImageTooLargeError     more pixels or bytes than allowed
    ├── SupportSetError            the labelled examples cannot train a head
    │   ├── NoExamplesError        nothing to learn from
    │   └── TooFewClassesError     fewer than two classes
    ├── HeadFileError              a head file that cannot be read
    │   └── ExtractorMismatchError a head meets embeddings of another extractor
    ├── ManifestError              an extractor folder that is incomplete or altered
    ├── WeightsError               weights that are missing or not the expected ones
    ├── ExportError                an export that does not reproduce the network
    ├── FinetuneError              a network that cannot be trained further as was asked
    │   └── FinetuneStoppedError   somebody asked for it to stop; what is done so far is kept
    ├── DeviceError                a device that was asked for and is not there
    └── ClusterError               a Ray cluster that cannot be reached or gave up

Each class has a `code`: the stable, machine-readable name that REST clients see.
"""

from typing import ClassVar


class HeadstartError(Exception):
    """Base of every error that Headstart raises on purpose."""

    code: ClassVar[str] = "headstart_error"


class InputError(HeadstartError):
    """One input (an image, say) cannot be used. The message says why, in the user's words."""

    code = "invalid_input"


class EmptyInputError(InputError):
    code = "empty_input"


class UnsupportedImageError(InputError):
    code = "not_an_image"


class TruncatedImageError(InputError):
    code = "truncated_image"


class ImageTooLargeError(InputError):
    code = "image_too_large"


class SupportSetError(HeadstartError):
    """The support set cannot train a head: expected and observed are in the message."""

    code = "invalid_support_set"


class NoExamplesError(SupportSetError):
    code = "no_examples"


class TooFewClassesError(SupportSetError):
    code = "too_few_classes"


class HeadFileError(HeadstartError):
    code = "invalid_head_file"


class ExtractorMismatchError(HeadFileError):
    code = "extractor_mismatch"


class ManifestError(HeadstartError):
    code = "invalid_extractor"


class WeightsError(HeadstartError):
    code = "weights_unavailable"


class ExportError(HeadstartError):
    code = "export_failed"


class FinetuneError(HeadstartError):
    code = "finetune_failed"


class FinetuneStoppedError(FinetuneError):
    code = "finetune_stopped"


class DeviceError(HeadstartError):
    code = "device_unavailable"


class ClusterError(HeadstartError):
    code = "cluster_unavailable"
