"""The LightningDataModule: batches as a pure function of the step."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from induction_bump.data.corpus import Corpus
from induction_bump.data.dataset import StepBatchSampler, WindowDataset
from induction_bump.pools import FORKSERVER
from induction_bump.training.options import RunConfig


class WindowData(pl.LightningDataModule):
    """Training windows of a corpus in the order of seed.data, from optimiser step `first_step` on."""

    def __init__(self, config: RunConfig, corpus: Corpus, first_step: int = 0) -> None:
        super().__init__()
        self.config, self.corpus, self.first_step = config, corpus, first_step

    def train_dataloader(self) -> DataLoader[Any]:
        """This rank's share of every step that is left."""
        config = self.config
        batch, last = config.training.batch_sequences, config.total_steps
        _, passes = config.devices.split(batch)
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        workers = config.devices.loader_workers
        return DataLoader(
            WindowDataset(self.corpus, config.seed.data, last * batch),  # type: ignore[arg-type]
            batch_sampler=StepBatchSampler(self.first_step, last, batch, passes=passes, rank=rank, world=world),
            collate_fn=torch.from_numpy,
            num_workers=workers,
            persistent_workers=False,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            # forking a process that has started torch's threads can deadlock
            multiprocessing_context=FORKSERVER if workers else None,
        )
