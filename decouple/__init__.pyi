"""What `import decouple` gives, for type checkers and for `decouple/__init__.py`, which imports each name when it is first used."""

from . import (
    analysis as analysis,
    config as config,
    data as data,
    errors as errors,
    fitness as fitness,
    learn as learn,
    loggers as loggers,
    networks as networks,
    pipeline as pipeline,
    presets as presets,
    q0 as q0,
    report as report,
    results as results,
    search as search,
    settings as settings,
    tasks as tasks,
    text as text,
    trajectories as trajectories,
)
from ._version import __version__ as __version__
from .config import (
    CompareConfig as CompareConfig,
    CorpusConfig as CorpusConfig,
    DataConfig as DataConfig,
    EsConfig as EsConfig,
    GptConfig as GptConfig,
    LearnConfig as LearnConfig,
    LiveConfig as LiveConfig,
    NetworkConfig as NetworkConfig,
    PaperConfig as PaperConfig,
    Q0Config as Q0Config,
    RoundsConfig as RoundsConfig,
    RunConfig as RunConfig,
    SearchConfig as SearchConfig,
    SearchedNetwork as SearchedNetwork,
    SgdConfig as SgdConfig,
    TextConfig as TextConfig,
    TuneConfig as TuneConfig,
)
from .data import (
    ImageData as ImageData,
    Split as Split,
    load_data as load_data,
)
from .errors import (
    ConfigError as ConfigError,
    DamagedFileError as DamagedFileError,
    DataError as DataError,
    DecoupleError as DecoupleError,
    MemoryLimitError as MemoryLimitError,
    NetworkError as NetworkError,
    NotFiniteError as NotFiniteError,
    RunDirectoryError as RunDirectoryError,
    SettingError as SettingError,
    WorkerError as WorkerError,
)
from .evaluation import (
    Evaluation as Evaluation,
    evaluate as evaluate,
)
from .fitness import (
    Candidates as Candidates,
    Peers as Peers,
)
from .learn import (
    Fit as Fit,
    learn_targets as learn_targets,
    train_sgd as train_sgd,
)
from .learn.objective import (
    Targets as Targets,
)
from .loggers import (
    Logger as Logger,
    Loggers as Loggers,
)
from .networks import (
    Stages as Stages,
    paper_network as paper_network,
)
from .networks.points import (
    CutPoint as CutPoint,
    cut_points as cut_points,
)
from .pipeline import (
    run as run,
)
from .pipeline.opened import (
    OpenedRun as OpenedRun,
    open as open,
)
from .pipeline.trials import (
    Trial as Trial,
    Tuning as Tuning,
)
from .pipeline.tune import (
    tune as tune,
)
from .presets import (
    preset as preset,
    text_preset as text_preset,
)
from .progress import (
    Progress as Progress,
)
from .q0.ensemble import (
    Ensemble as Ensemble,
)
from .q0.export import (
    export as export,
)
from .report import (
    write_comparison as write_comparison,
)
from .report.table import Outcome as Outcome, Table as Table, TableRow as TableRow, read_table as read_table
from .results import (
    Reliability as Reliability,
    Results as Results,
)
from .search import (
    Algorithm as Algorithm,
    EvolutionStrategy as EvolutionStrategy,
    Execution as Execution,
    PaperSearch as PaperSearch,
    TargetStore as TargetStore,
    search_solution as search_solution,
    search_solutions as search_solutions,
)
from .training.evaluate import (
    accuracy as accuracy,
)
from .trajectories import (
    Recorder as Recorder,
    Recording as Recording,
    compare_recordings as compare_recordings,
)
from .trajectories.results import (
    TrajectoryComparison as TrajectoryComparison,
)
