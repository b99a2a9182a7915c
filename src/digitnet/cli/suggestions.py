"""Suggests the key or the option that was probably meant."""

import difflib
from collections.abc import Collection, Iterable

# Keys and options of digitnet 0.1.0 whose new name is not the most similar one.
_RENAMED = {
    "averaging": "weight_averaging",
    "folder": "hydra.run.dir",
    "run": "model",
    "json": "json_path",
    "plots": "plots_dir",
    "distillation.weight": "distillation.alpha",
    "distillation.teacher.source": "distillation.teacher.model",
    "cnn_teacher_valid": "cnn_teacher_unpadded",
    "onecycle": "linear",
}


def _split(table: dict[str, str]) -> dict[str, frozenset[str]]:
    return {key: frozenset(aliases.split()) for key, aliases in table.items()}


# Keys (or a choice, "group=option") and, for each, what other programs call it. The first key that exists is suggested.
_ALIASES = _split(
    {
        "trainer.max_epochs": "epochs epoch num_epochs n_epochs nb_epochs max_epoch total_epochs train_epochs",
        "trainer.max_steps": "steps num_steps max_step iterations iters",
        "trainer.devices": "gpus num_gpus n_gpus num_devices num_processes nproc world_size ngpu",
        "trainer.num_nodes": "nodes nnodes",
        "trainer.accelerator": "device cuda gpu cpu use_cuda use_gpu no_cuda mps",
        "trainer.precision": "amp fp16 bf16 half mixed_precision use_amp dtype",
        "trainer.gradient_clip_val": "clip grad_clip gradient_clip clip_grad grad_norm max_grad_norm clip_norm",
        "trainer.accumulate_grad_batches": "accumulate grad_accum accumulation_steps gradient_accumulation_steps",
        "debug=fast": "fast_dev_run dry_run",
        "optimizer.lr": "learning_rate learningrate base_lr max_lr initial_lr",
        "optimizer.weight_decay": "wd decay l2 weightdecay",
        "optimizer.momentum": "beta1 beta betas",
        "optimizer": "optim optimiser opt",
        "schedule": "scheduler lr_scheduler lr_schedule sched",
        "schedule.warmup_fraction": "warmup warmup_steps warmup_epochs warm_up",
        "data.batch_size": "batch bs batchsize train_batch_size mini_batch minibatch",
        "data.val_size": "val_split validation_split val_fraction validation_size valid_size train_val_test_split",
        "data.root": "data_dir data_root dataset_dir data_path datadir",
        "augmentation": "augment aug augs augmentations transforms transform train_transforms",
        "data": "dataset datamodule",
        "model": "net network arch architecture backbone",
        "model.dropout": "drop drop_rate dropout_rate dropout_p p_dropout drop_prob",
        "model.label_smoothing": "smoothing",
        "model.channels": "filters width widths num_filters",
        "seed": "random_seed manual_seed random_state",
        "resume": "ckpt ckpt_path checkpoint checkpoint_path resume_from resume_from_checkpoint",
        "hydra.run.dir": "output_dir out_dir output out log_dir logdir save_dir run_name task_name",
        "logger=wandb": "wandb wandb_logger",
        "logger=mlflow": "mlflow mlflow_logger",
        "logger=tensorboard": "tensorboard tb",
        "logger": "loggers logging",
        "callbacks=early_stopping": "early_stopping earlystopping early_stop patience",
        "callbacks=model_checkpoint": "model_checkpoint save_top_k",
        "callbacks": "callback",
        "weight_averaging=ema": "ema swa",
        "distillation=cnn": "kd distill teacher",
        "compile": "torch_compile compile_model",
    }
)
_OPTION_ALIASES = _split(
    {
        "tensorboard": "tb tensor_board tensorboard_logger",
        "many": "many_loggers all",
        "gpu": "cuda gpus",
        "ddp": "ddp_sim ddp_spawn multi_gpu",
        "fast": "default limit fdr",
        "sgd": "momentum nesterov",
        "constant": "none null fixed flat",
        "cosine": "cosine_annealing cosineannealinglr cos",
        "linear": "one_cycle onecyclelr",
        "16-mixed": "fp16 amp half float16 mixed",
        "bf16-mixed": "bfloat16 bf16_mixed",
        "strong": "heavy hard",
        "light": "weak soft",
        "default": "medium standard basic",
        "none": "no off disabled",
    }
)


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Suggest a known name.

    Args:
        wrong: The name that was typed.
        known: The names that exist. A key that was typed without its node, or below another one, is found by its last
            part.

    Returns:
        Text to append to an error message; empty if no name is similar.
    """
    nearest = nearest_names(wrong, known)
    return f"; did you mean {' or '.join(nearest)}?" if nearest else ""


def nearest_names(wrong: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are probably meant, the nearest first, at most three.

    Args:
        wrong: The name that was typed.
        known: The names that exist.
    """
    names = list(dict.fromkeys(known))
    last = wrong.rpartition(".")[2]
    if _RENAMED.get(wrong) in names:
        return [_RENAMED[wrong]]
    same_last_part = [name for name in names if name.rpartition(".")[2] == last and name != wrong]
    if same_last_part:
        return sorted(same_last_part, key=lambda name: -difflib.SequenceMatcher(None, wrong, name).ratio())[:3]
    for word in (wrong, last):
        if alias := known_alias(word, names):
            return [alias]
    by_lower_case = {name.lower(): name for name in reversed(names)}
    similar = difflib.get_close_matches(wrong.lower(), by_lower_case, n=1, cutoff=0.6)
    return [by_lower_case[name] for name in similar]


def known_alias(word: str, known: Collection[str] | None = None) -> str | None:
    """Return the key or the option that another program calls by a word.

    Args:
        word: The word, such as "epochs" or "batch-size".
        known: The names that exist; by default the keys that have aliases.

    Returns:
        The name, such as "trainer.max_epochs", or a choice, such as "logger=wandb"; None if the word is no alias.
    """
    word = word.lower().replace("-", "_")
    if known is None:
        return next((key for key, names in _ALIASES.items() if word in names or word == key.rpartition(".")[2]), None)
    for table in (_ALIASES, _OPTION_ALIASES):
        for key, aliases in table.items():
            if word in aliases and key.partition("=")[0] in known:
                return key
    return None
