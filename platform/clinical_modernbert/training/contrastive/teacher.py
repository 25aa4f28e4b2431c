"""The teacher of a contrastive run: an encoder that stays as it is, whose similarities the trained one learns."""

from functools import partial

from clinical_modernbert.artifacts import InputEntry, Store, model_name, open_model
from clinical_modernbert.artifacts.vector_folder import read_vector_folder
from clinical_modernbert.encoder import Precision, load_with_new_head
from clinical_modernbert.encoder.limits import max_tokens
from clinical_modernbert.errors import ModelError
from clinical_modernbert.outages import patiently
from clinical_modernbert.recipe.contrast import TeacherSection
from clinical_modernbert.tokenizer import load_tokenizer
from clinical_modernbert.training.contrastive.text_model import TextModel
from clinical_modernbert.training.worker import Worker


def open_teacher(
    entry: InputEntry, store: Store, section: TeacherSection, *, precision: Precision, worker: Worker
) -> TextModel:
    """Load the teacher with its own tokenizer, limit and pooling. Every worker calls it."""
    folder = patiently(partial(open_model, entry, store), work="reading the teacher")
    own = read_vector_folder(folder, field=entry.name)
    pooling = section.pooling or own.pooling
    if pooling is None:
        raise ModelError(
            f"training.teacher.pooling: {model_name(entry)} does not say how it pools (1_Pooling/config.json); set cls or mean"
        )
    model = load_with_new_head(folder, "embedding", label=model_name(entry)).to(worker.device).eval()
    model.requires_grad_(False)
    return TextModel(
        model=model,
        tokenizer=load_tokenizer(folder),
        pooling=pooling,
        max_tokens=min(own.max_tokens or max_tokens(model), max_tokens(model)),
        precision=precision,
        device=worker.device,
        prompt=section.prompt,
    )
