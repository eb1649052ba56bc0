"""Finding or building a corpus's shards below `<cache>/corpora/<hash>`.

The hash is of everything the tokens depend on. One process builds, under a lock, into a directory beside the final one,
and renames it when it is complete; whoever comes meanwhile waits and finds it. A builder that was killed leaves a
partial directory and its lock's file, which the next one on its machine removes; one that ends leaves the shards alone.
"""

import errno
import functools
import logging
import shutil
from itertools import chain, islice
from pathlib import Path

from induction_bump.aside import aside_of, remove_leftovers
from induction_bump.data.building import locked
from induction_bump.data.cache import entry
from induction_bump.data.cores import available_cores
from induction_bump.data.documents import open_documents
from induction_bump.data.errors import CorpusError
from induction_bump.data.fingerprint import digest, fingerprint, tokenizer_fingerprint
from induction_bump.data.holding_out import FEW_HELD_OUT, held_out_by
from induction_bump.data.options import DataOptions, PythonSourceOptions, RepeatsOptions, TriggersOptions
from induction_bump.data.progress import TokenisingProgress
from induction_bump.data.sections import stretches
from induction_bump.data.shards import FEW_CLUSTERS, FORMAT, HELD_OUT, TRAINING, Shards, ShardWriter, TokenStream
from induction_bump.data.tokenise import BatchTokeniser, tokenise
from induction_bump.data.tokenizer import describe, load_pretrained, train_bpe

log = logging.getLogger(__name__)

LITTLE_SOURCE = 25_000_000
"""Bytes of `python_source` below which a warning says that there is little to learn from."""


def find_or_build(options: DataOptions, cache: Path, *, progress: bool = True) -> Shards:
    """The shards of a text corpus. Raises CorpusError for what the user can mend."""
    content = fingerprint(options, cache)
    depends_on = {
        "format": FORMAT,
        "corpus": content,
        "tokenizer": tokenizer_fingerprint(options.tokenizer),
        "held_out_share": options.held_out_share,
    }
    if _refuses_undecodable(options):  # so that shards for which some were skipped are not found instead
        depends_on["undecodable"] = "refuse"
    key = digest(depends_on)[:32]
    directory = cache.expanduser() / "corpora" / key
    opened = functools.partial(_opened, options=options)
    if shards := entry(directory, opened):
        return shards
    directory.parent.mkdir(parents=True, exist_ok=True)
    waiting = f"{options.corpus.name}: another process is tokenising this corpus; waiting for it"
    with locked(directory.with_suffix(".lock"), waiting if progress else None):
        if shards := entry(directory, opened):  # made while this process waited
            return shards
        remove_leftovers(directory.parent)
        partial = aside_of(directory)
        partial.mkdir()
        try:
            _build(options, content, partial, progress)
            if shards := entry(directory, opened):  # made meanwhile on a machine that does not see the lock
                return shards
            shutil.rmtree(directory, ignore_errors=True)
            partial.rename(directory)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:  # as of an open file
                error.filename = str(directory)
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return _opened(directory, options)


def _refuses_undecodable(options: DataOptions) -> bool:
    corpus = options.corpus
    return not isinstance(corpus, RepeatsOptions | TriggersOptions) and corpus.undecodable == "refuse"


def _opened(directory: Path, options: DataOptions) -> Shards:
    shards = Shards(directory)
    size = shards.manifest["text_bytes"]
    if isinstance(options.corpus, PythonSourceOptions) and size < LITTLE_SOURCE:
        log.warning(
            "python_source: only %.1f MB of source here, less than 25 MB; data.corpus.installed_packages=true adds that"
            " of installed packages, and data.corpus=files reads your own text",
            size / 1e6,
        )
    _warn_of_few(shards.stream(HELD_OUT), options)
    return shards


def _warn_of_few(held_out: TokenStream, options: DataOptions) -> None:
    if held_out_by(options) == "sections":
        if held_out.clusters < FEW_CLUSTERS:
            log.warning(
                "%s: held-out sections are of %d documents only; standard errors are over %d sections, as if these were"
                " independent",
                *(options.corpus.name, held_out.clusters, held_out.documents),
            )
    elif held_out.documents < FEW_HELD_OUT:
        log.warning(
            "%s: only %d documents are held out, so standard errors of what is measured on them are large (%.2f of the"
            " spread between documents) and unsure; data.held_out_by=sections holds out parts of long documents"
            " instead, and a larger data.held_out_share more of them",
            *(options.corpus.name, held_out.documents, held_out.documents**-0.5),
        )


def _build(options: DataOptions, content: str, directory: Path, progress: bool) -> None:
    documents = open_documents(options.corpus)
    share, by, text_bytes, texts = options.held_out_share, held_out_by(options), 0, 0
    with TokenisingProgress(options.corpus.name, documents.bytes, shown=progress) as bar:
        if options.tokenizer.name == "bpe":
            bar.say(f"training a tokenizer of {options.tokenizer.vocab_size} tokens")
            parts = chain.from_iterable(stretches(text, share, by) for text in documents)
            training = (part.text for part in parts if not part.held_out)
            first = list(islice(training, 1))
            if not first:
                _check_parts(options, training=0, held_out=sum(1 for _ in documents))
            learned_from = islice(chain(first, training), options.tokenizer.training_documents)
            tokenizer = train_bpe(learned_from, options.tokenizer)
        else:
            tokenizer = load_pretrained(options.tokenizer)
        info, json = describe(tokenizer, options.tokenizer.source), tokenizer.to_str()
        with ShardWriter(directory, json, info, sectioned=by == "sections") as writer:
            bar.say("tokenising, once for all runs on this corpus")
            workers = BatchTokeniser(json, info.bos, writer.dtype, share, by)
            for batch in tokenise(documents, workers, available_cores()):
                for split, (stream, lengths) in batch.streams.items():
                    writer.add(split, stream, lengths, texts + batch.sources[split])
                bar.add(batch.bytes, batch.tokens)
                text_bytes += batch.bytes
                texts += batch.texts
            _check_parts(options, writer.documents(TRAINING), writer.documents(HELD_OUT))
            writer.close(content, text_bytes)


def _check_parts(options: DataOptions, training: int, held_out: int) -> None:
    """Raise CorpusError where a part has no documents."""
    total = training + held_out
    if not total:
        raise CorpusError(
            f"data.corpus.name={options.corpus.name}: there is no text in it; give documents that hold some"
        )
    if not held_out or not training:
        part, change = ("training", "lower") if held_out else ("held-out", "raise")
        raise CorpusError(
            f"data.held_out_share={options.held_out_share}: the {part} part of {total} documents is empty;"
            f" {change} it, or give more documents (whole documents are held out, unless data.held_out_by=sections)"
        )
