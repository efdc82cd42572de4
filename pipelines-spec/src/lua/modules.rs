//! What the language offers, as one table: the source of the definition-time stubs, of the editor stubs and of the docs.
//! Types are written as `LuaCATS` types, so that they can be printed as they stand.

/// A global table (or function) of the language.
#[derive(Debug, Clone, Copy)]
pub struct Module {
    /// The global's name.
    pub name: &'static str,
    /// What it is for, in one or two sentences.
    pub doc: &'static str,
    /// Where it may be used.
    pub scope: Scope,
    /// Its functions. A function whose name is empty is the module itself (`always()`).
    pub functions: &'static [Function],
    /// Its fields that are not functions.
    pub fields: &'static [Field],
}

/// When a module may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// While the file is evaluated, and everywhere else.
    Definition,
    /// In conditions, axis functions, validators and stage scripts.
    Decision,
    /// In stage scripts and rollbacks alone.
    Script,
}

/// One function.
#[derive(Debug, Clone, Copy)]
pub struct Function {
    /// Its name in the module.
    pub name: &'static str,
    /// What it takes.
    pub params: &'static [Field],
    /// The `LuaCATS` type of what it returns; empty: nothing.
    pub returns: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// A parameter, or a field of a table.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name; `...` for the rest.
    pub name: &'static str,
    /// Its `LuaCATS` type.
    pub kind: &'static str,
    /// Whether it may be left out.
    pub optional: bool,
    /// What it means.
    pub doc: &'static str,
}

/// A named shape of a table.
#[derive(Debug, Clone, Copy)]
pub struct Class {
    /// Its `LuaCATS` name.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
    /// Its methods, called with `:`.
    pub methods: &'static [Function],
}

const fn must(name: &'static str, kind: &'static str, doc: &'static str) -> Field {
    Field { name, kind, optional: false, doc }
}

const fn may(name: &'static str, kind: &'static str, doc: &'static str) -> Field {
    Field { name, kind, optional: true, doc }
}

const fn function(name: &'static str, params: &'static [Field], returns: &'static str, doc: &'static str) -> Function {
    Function { name, params, returns, doc }
}

const MESSAGE: &[Field] = &[must("...", "any", "What to say: values, put one after another.")];

/// Every module there is.
pub const MODULES: &[Module] = &[
    Module {
        name: "pipeline",
        doc: "Defines what the file is about.",
        scope: Scope::Definition,
        functions: &[
            function(
                "define",
                &[must("definition", "rivet.Definition", "The pipeline.")],
                "rivet.Pipeline",
                "Defines the pipeline from one table. The file returns the result.",
            ),
            function("builder", &[], "rivet.Builder", "Defines the pipeline call by call; `build()` ends it."),
        ],
        fields: &[],
    },
    Module {
        name: "event",
        doc: "What started the run.",
        scope: Scope::Definition,
        functions: &[],
        fields: EVENT_FIELDS,
    },
    Module {
        name: "input",
        doc: "The run's inputs as text.",
        scope: Scope::Decision,
        functions: &[function(
            "get",
            &[must("name", "string", "The input."), may("fallback", "string", "What to give where it has no value.")],
            "string?",
            "The input's text form: `\"true\"`, `\"4\"`.",
        )],
        fields: &[],
    },
    Module {
        name: "inputs",
        doc: "The run's inputs by name, typed.",
        scope: Scope::Decision,
        functions: &[],
        fields: &[may("[string]", "string|number|boolean|string[]|number[]|boolean[]", "An input's value.")],
    },
    Module {
        name: "needs",
        doc: "State and outputs of the stages this one depends on, by name.",
        scope: Scope::Decision,
        functions: &[],
        fields: &[may("[string]", "rivet.Need", "One of them.")],
    },
    Module {
        name: "matrix",
        doc: "The values of this leg by axis.",
        scope: Scope::Decision,
        functions: &[],
        fields: &[may("[string]", "string|number|boolean", "An axis' value.")],
    },
    Module {
        name: "always",
        doc: "In a condition: run whatever became of the stages before.",
        scope: Scope::Decision,
        functions: &[function("", &[], "boolean", "Always true.")],
        fields: &[],
    },
    Module {
        name: "failed",
        doc: "In a condition: whether a stage this one depends on failed.",
        scope: Scope::Decision,
        functions: &[function(
            "",
            &[may("stage", "string", "Only this one.")],
            "boolean",
            "Whether it, or any, failed.",
        )],
        fields: &[],
    },
    Module {
        name: "succeeded",
        doc: "In a condition: whether the stages this one depends on succeeded.",
        scope: Scope::Decision,
        functions: &[function(
            "",
            &[may("stage", "string", "Only this one.")],
            "boolean",
            "Whether it, or all, succeeded.",
        )],
        fields: &[],
    },
    Module {
        name: "log",
        doc: "The stage's log.",
        scope: Scope::Script,
        functions: &[
            function("debug", MESSAGE, "", "Writes a line for those who look closely."),
            function("info", MESSAGE, "", "Writes a line."),
            function("warn", MESSAGE, "", "Writes a warning."),
            function("error", MESSAGE, "", "Writes an error; the stage goes on."),
            function(
                "group",
                &[must("name", "string", "The group's heading."), must("fn", "fun(): any", "What writes into it.")],
                "any",
                "Folds what `fn` writes under a heading and returns what it returns.",
            ),
            function(
                "annotate",
                &[must("annotation", "rivet.Annotation", "What to show, and where.")],
                "",
                "Shows a message on a line of the code, in the check.",
            ),
            function(
                "progress",
                &[
                    must("done", "number", "How much is done."),
                    may("total", "number", "Of how much."),
                    may("message", "string", "What is being done."),
                ],
                "",
                "Tells how far the stage is.",
            ),
        ],
        fields: &[],
    },
    Module {
        name: "env",
        doc: "The stage's environment variables, by name.",
        scope: Scope::Script,
        functions: &[],
        fields: &[may("[string]", "string", "A variable.")],
    },
    Module {
        name: "ctx",
        doc: "What this attempt is about; also the first parameter of `script` and `rollback`.",
        scope: Scope::Script,
        functions: &[],
        fields: CTX_FIELDS,
    },
    Module {
        name: "process",
        doc: "Runs commands in the stage's container, or on the host.",
        scope: Scope::Script,
        functions: &[
            function(
                "run",
                &[must(
                    "command",
                    "string|string[]|rivet.Command",
                    "A string is given to `sh -c`; a list runs directly.",
                )],
                "rivet.ProcessResult",
                "Runs a command to its end. Another code than 0 raises `command_failed` unless `check = false`.",
            ),
            function(
                "parallel",
                &[
                    must("items", "any[]", "What to work on."),
                    must("fn", "fun(item: any, index: integer): any", "What to do with each."),
                    may("options", "{ max?: integer }", "How many at once."),
                ],
                "any[]",
                "Calls `fn` for each item, several at once, and returns the results in the items' order.",
            ),
        ],
        fields: &[],
    },
    Module {
        name: "json",
        doc: "JSON text.",
        scope: Scope::Script,
        functions: &[
            function(
                "encode",
                &[must("value", "any", "The value."), may("options", "{ pretty?: boolean }", "How.")],
                "string",
                "Writes a value as JSON, keys sorted.",
            ),
            function("decode", &[must("text", "string", "The JSON.")], "any", "Reads a value."),
        ],
        fields: &[must("null", "any", "What stands for `null`.")],
    },
];

const EVENT_FIELDS: &[Field] = &[
    must(
        "name",
        "\"push\"|\"pull_request\"|\"merge_group\"|\"comment\"|\"schedule\"|\"manual\"|\"repository_dispatch\"|\"pipeline\"",
        "What kind of event.",
    ),
    may("action", "string", "The forge's own action, such as `opened`."),
    must("repo", "string", "`owner/name`."),
    must("default_branch", "string", "The repository's default branch."),
    must("ref", "string", "The full ref, such as `refs/heads/main`."),
    may("branch", "string", "The branch's short name."),
    may("tag", "string", "The tag's short name."),
    must("sha", "string", "The commit."),
    may("before", "string", "The ref's commit before a push."),
    may("forced", "boolean", "Whether a push was forced."),
    must("actor", "string", "Login of who caused it."),
    may("message", "string", "The head commit's message."),
    may("pull_request", "rivet.PullRequest", "The pull request."),
    may("dispatch_type", "string", "A dispatch's type."),
    may("extra", "table<string, any>", "Further data."),
];

const CTX_FIELDS: &[Field] = &[
    must("event", "rivet.Event", "What started the run."),
    must("inputs", "table<string, any>", "The run's inputs, typed."),
    must("needs", "table<string, rivet.Need>", "The stages this one depends on."),
    must("matrix", "table<string, string|number|boolean>", "This leg's values."),
    must("run", "rivet.Run", "The run."),
    must("stage", "string", "The stage's name."),
    must("attempt", "integer", "Which try this is, from 1."),
    must("max_attempts", "integer", "How many tries there are at most."),
    must("workspace", "string", "The job's directory, as commands see it."),
    may("outputs", "table<string, any>", "In a rollback: what the stage returned."),
    must(
        "step",
        "fun(name: string, fn: fun(): any): any",
        "Runs a function as a step of this name and returns its value.",
    ),
];

/// Every named table shape.
pub const CLASSES: &[Class] = &[
    Class { name: "rivet.Pipeline", doc: "What a file returns.", fields: &[], methods: &[] },
    Class {
        name: "rivet.Definition",
        doc: "A pipeline.",
        fields: &[
            may("name", "string", "What people read."),
            may("description", "string", "What it does."),
            may("on", "rivet.Triggers", "What starts it; without it every push and pull request does."),
            may("concurrency", "rivet.Concurrency", "How runs of one group share."),
            may("inputs", "table<string, rivet.Input>", "Typed inputs by name."),
            may("runner", "rivet.Label[]", "Labels a runner must have."),
            may("tags", "rivet.Label[]", "Further capabilities asked of a runner."),
            may("env", "table<string, string|number|boolean>", "Environment variables of every stage."),
            may("timeout", "rivet.Duration", "How long the whole run may take."),
            must("stages", "rivet.Stage[]", "The stages; one without `depends_on` follows the one before it."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Stage",
        doc: "One stage.",
        fields: &[
            must("name", "string", "Its name: letters, digits, `_`, `.` and `-`, at most 63."),
            may("depends_on", "string[]", "Stages it waits for; `{}` starts at once."),
            may("script", "fun(ctx: rivet.Ctx): table?", "What it does, on the runner."),
            may("run", "string|string[]", "Shell lines it runs instead of a script."),
            may("pipeline", "string", "Another pipeline of the repository it runs instead."),
            may("inputs", "table<string, any>", "That pipeline's inputs."),
            may("container", "string", "The image its commands run in."),
            may(
                "condition",
                "string|fun(ctx: rivet.DecisionCtx): boolean",
                "When it runs; without it, when all before it succeeded.",
            ),
            may("matrix", "rivet.Matrix", "What it is multiplied by."),
            may("retry", "rivet.Retry", "When a failed attempt is tried again."),
            may("timeout", "rivet.Duration", "How long one attempt may take."),
            may("env", "table<string, string|number|boolean>", "Environment variables of its commands."),
            may("secrets", "string[]", "Secrets it may read."),
            may("environment", "string", "The environment it deploys to."),
            may("approval", "rivet.Approval", "Who must agree first."),
            may("rollback", "rivet.Rollback|fun(ctx: rivet.Ctx)", "What undoes it."),
            may("services", "table<string, rivet.Service>", "Containers beside it, by the name they are reached by."),
            may("runner", "rivet.Label[]", "Labels a runner must have, beside the pipeline's."),
            may("priority", "integer", "Higher is claimed first."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Triggers",
        doc: "What starts a pipeline.",
        fields: &[
            may(
                "push",
                "boolean|{ branches?: string[], tags?: string[], paths?: string[], with_pull_request?: boolean }",
                "Pushes; lists of globs, `!` takes back.",
            ),
            may(
                "pull_request",
                "boolean|{ branches?: string[], paths?: string[], types?: string[], labels?: string[], drafts?: boolean, merge?: boolean }",
                "Pull requests.",
            ),
            may("schedule", "rivet.Schedule[]|rivet.Schedule", "Clock times."),
            may("comment", "rivet.CommentTrigger[]|rivet.CommentTrigger", "Comments."),
            may("merge_group", "boolean|{ branches?: string[] }", "Merge queues."),
            may("repository_dispatch", "boolean|string[]|{ types?: string[] }", "Dispatches from outside."),
            may("manual", "boolean", "Whether people may launch it."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Schedule",
        doc: "One clock time.",
        fields: &[
            must("cron", "string", "Five POSIX fields, such as `0 3 * * 1-5`."),
            may("timezone", "string", "An IANA zone; UTC without it."),
            may("inputs", "table<string, any>", "Inputs of its runs."),
            may("catch_up", "boolean", "Whether one missed time is made up after an outage."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.CommentTrigger",
        doc: "A comment that starts the pipeline.",
        fields: &[
            must("command", "string", "The command's first word, such as `/bench`."),
            may(
                "permission",
                "\"read\"|\"write\"|\"admin\"",
                "The least permission its author needs; `write` without it.",
            ),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Concurrency",
        doc: "How runs of one group share.",
        fields: &[
            must("group", "string", "The group's name; may hold `${…}`."),
            may("cancel_in_progress", "boolean", "Whether a newer run cancels older ones."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Input",
        doc: "One typed input.",
        fields: &[
            must("type", "\"string\"|\"number\"|\"bool\"|\"array\"", "Its type."),
            may("items", "\"string\"|\"number\"|\"bool\"", "The type of an array's items."),
            may("description", "string", "What it is for."),
            may("default", "any", "What it is where nothing is given."),
            may("required", "boolean", "Whether a launch must give it; true where there is no default."),
            may("options", "any[]", "The values it may have."),
            may("min", "number", "Least number."),
            may("max", "number", "Greatest number."),
            may("pattern", "string", "A Lua pattern its text must match."),
            may("min_items", "integer", "Fewest items."),
            may("max_items", "integer", "Most items."),
            may("validate", "fun(value: any): boolean, string?", "Whether a value will do, and if not, why."),
            may("secret", "boolean", "Whether it is hidden wherever it would be shown."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Label",
        doc: "What a runner can do.",
        fields: &[must("key", "string", "Such as `os`."), must("value", "string", "Such as `linux`.")],
        methods: &[],
    },
    Class {
        name: "rivet.Matrix",
        doc: "Axes by name (a list of values, or a function of `needs`), and how their legs run.",
        fields: &[
            may("[string]", "(string|number|boolean)[]|fun(ctx: rivet.DecisionCtx): any[]", "An axis."),
            may("include", "table<string, any>[]", "Further legs, or further values for legs that match."),
            may("exclude", "table<string, any>[]", "Legs to leave out."),
            may("max_parallel", "integer", "At most so many legs at once."),
            may("fail_fast", "boolean", "Whether the first failed leg cancels the others; true without it."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Retry",
        doc: "When a failed attempt is tried again.",
        fields: &[
            must("max_attempts", "integer", "Attempts in all, the first one counted."),
            may(
                "on",
                "(\"script_error\"|\"command_failed\"|\"timeout\"|\"infra_error\"|\"lost_runner\"|\"limit\")[]",
                "Error classes to retry.",
            ),
            may("backoff", "rivet.Backoff", "How long to wait."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Backoff",
        doc: "Delays between attempts: `min(max, initial * factor^(n-2))` before attempt n.",
        fields: &[
            may("initial", "rivet.Duration", "Before the second attempt; 1 s without it."),
            may("factor", "number", "What each further delay is multiplied by; 2 without it."),
            may("max", "rivet.Duration", "The longest delay; 5 m without it."),
            may("jitter", "number", "Share of the delay drawn at random, 0 to 1; 0.2 without it."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Approval",
        doc: "Who must agree before the stage runs.",
        fields: &[
            may("required", "boolean", "Whether it is needed; true without it."),
            may(
                "reviewers",
                "string[]",
                "Logins, `@org/team`s or groups of the server; without it anyone who may write.",
            ),
            may("count", "integer", "How many different people; 1 without it."),
            may(
                "prevent_self",
                "boolean",
                "Whether who caused the run may not approve it; without it true where the stage has an `environment`.",
            ),
            may("expires", "rivet.Duration", "When the gate closes by itself."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Rollback",
        doc: "What undoes a stage.",
        fields: &[
            may("script", "fun(ctx: rivet.Ctx)", "A function."),
            may("run", "string|string[]", "Shell lines instead."),
            may("timeout", "rivet.Duration", "How long it may take."),
            may("retry", "rivet.Retry", "Its own retries."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Service",
        doc: "A container beside a stage.",
        fields: &[
            must("image", "string", "Its image."),
            may("env", "table<string, string|number|boolean>", "Its environment."),
            may("command", "string[]", "Its command."),
            may("ready", "rivet.Ready", "How to tell that it is ready."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Ready",
        doc: "A readiness probe.",
        fields: &[
            must("command", "string|string[]", "Run inside the service until it ends with 0."),
            may("interval", "rivet.Duration", "Between tries; 1 s without it."),
            may("timeout", "rivet.Duration", "When it counts as failed; 60 s without it."),
        ],
        methods: &[],
    },
    Class { name: "rivet.Event", doc: "What started a run.", fields: EVENT_FIELDS, methods: &[] },
    Class {
        name: "rivet.PullRequest",
        doc: "A pull request.",
        fields: &[
            must("number", "integer", "Its number."),
            must("title", "string", "Its title."),
            must("author", "string", "Author's login."),
            must("base", "string", "The base branch."),
            must("base_sha", "string", "The base branch's commit."),
            must("head", "string", "The head branch."),
            must("head_sha", "string", "The head's commit."),
            may("merge_sha", "string", "The test merge of head and base, where that is what is built."),
            must("draft", "boolean", "Whether it is a draft."),
            must("fork", "boolean", "Whether its head is in another repository."),
            must("labels", "string[]", "Its labels."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Need",
        doc: "A stage this one depends on.",
        fields: &[
            must("state", "\"succeeded\"|\"failed\"|\"skipped\"|\"cancelled\"|\"rolled_back\"", "How it ended."),
            must("outputs", "table<string, any>", "What its script returned."),
            may(
                "legs",
                "{ name: string, matrix: table<string, any>, state: string, outputs: table<string, any> }[]",
                "A matrix stage's legs.",
            ),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.DecisionCtx",
        doc: "What conditions and axis functions may look at.",
        fields: &[
            must("event", "rivet.Event", "What started the run."),
            must("inputs", "table<string, any>", "The run's inputs, typed."),
            must("needs", "table<string, rivet.Need>", "The stages this one depends on."),
            must("matrix", "table<string, string|number|boolean>", "This leg's values."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Run",
        doc: "A run.",
        fields: &[
            must("id", "string", "Its id."),
            must("number", "integer", "Its number in the repository."),
            must("url", "string", "Its page."),
            must("repo", "string", "`owner/name`."),
            must("pipeline", "string", "The pipeline's name: its file's stem."),
        ],
        methods: &[],
    },
    Class { name: "rivet.Ctx", doc: "What an attempt is about.", fields: CTX_FIELDS, methods: &[] },
    Class {
        name: "rivet.Command",
        doc: "A command to run directly.",
        fields: &[
            may("cmd", "string", "The program."),
            may("args", "(string|number)[]", "Its arguments."),
            may("[integer]", "string|number", "The program and its arguments, instead of `cmd` and `args`."),
            may("env", "table<string, string>", "Further environment variables."),
            may("cwd", "string", "The directory, from the workspace."),
            may("stdin", "string", "What it reads."),
            may("timeout", "rivet.Duration", "How long it may take."),
            may("shell", "boolean|string", "Whether `cmd` is a line for a shell, or for which one."),
            may("check", "boolean", "Whether another code than 0 raises an error; true without it."),
            may("capture", "boolean", "Whether its output is returned as well as logged; true without it."),
            may("memory", "string", "The most memory, such as `512m`."),
            may("cpu", "number", "The most processors."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.ProcessResult",
        doc: "How a command ended.",
        fields: &[
            must("code", "integer", "Its exit code."),
            must("stdout", "string", "What it wrote."),
            must("stderr", "string", "What it wrote as errors."),
            must("duration", "number", "Seconds it took."),
        ],
        methods: &[],
    },
    Class {
        name: "rivet.Annotation",
        doc: "A message on a line of the code.",
        fields: &[
            must("path", "string", "The file, from the repository's root."),
            must("line", "integer", "The line, from 1."),
            may("end_line", "integer", "The last line."),
            may("level", "\"notice\"|\"warning\"|\"failure\"", "How loud; `warning` without it."),
            may("title", "string", "A few words."),
            must("message", "string", "What to say."),
        ],
        methods: &[],
    },
    Class { name: "rivet.Builder", doc: "Builds a pipeline call by call.", fields: &[], methods: BUILDER_METHODS },
];

/// The builder's methods.
pub const BUILDER_METHODS: &[Function] = &[
    function("name", &[must("name", "string", "What people read.")], "rivet.Builder", "Names it."),
    function("description", &[must("description", "string", "What it does.")], "rivet.Builder", "Describes it."),
    function("on", &[must("triggers", "rivet.Triggers", "What starts it.")], "rivet.Builder", "Says what starts it."),
    function(
        "concurrency",
        &[must("concurrency", "rivet.Concurrency", "How runs share.")],
        "rivet.Builder",
        "Says how runs of one group share.",
    ),
    function(
        "input",
        &[must("name", "string", "Its name."), must("input", "rivet.Input", "The input.")],
        "rivet.Builder",
        "Adds an input.",
    ),
    function(
        "tag",
        &[must("label", "rivet.Label", "The capability.")],
        "rivet.Builder",
        "Asks for a capability of the runner.",
    ),
    function(
        "runner",
        &[must("labels", "rivet.Label[]", "The labels.")],
        "rivet.Builder",
        "Says which labels a runner must have.",
    ),
    function(
        "env",
        &[must("env", "table<string, string|number|boolean>", "The variables.")],
        "rivet.Builder",
        "Sets environment variables of every stage.",
    ),
    function("timeout", &[must("timeout", "rivet.Duration", "How long.")], "rivet.Builder", "Bounds the whole run."),
    function("stage", &[must("stage", "rivet.Stage", "The stage.")], "rivet.Builder", "Adds a stage."),
    function("build", &[], "rivet.Pipeline", "Ends it. The file returns the result."),
];

/// Aliases the types above use: name and what it stands for.
pub const ALIASES: &[(&str, &str)] = &[("rivet.Duration", "string|number")];

/// Every name that stands for a core module in stage scripts, whether this version has it or not. At definition time each
/// is a table whose use is an error that says so.
pub const CORE_NAMES: &[&str] = &[
    "log",
    "input",
    "inputs",
    "needs",
    "matrix",
    "env",
    "ctx",
    "process",
    "container",
    "fs",
    "http",
    "secret",
    "artifact",
    "cache",
    "git",
    "archive",
    "terraform",
    "json",
    "yaml",
    "toml",
    "time",
    "uuid",
    "hash",
    "semver",
];

/// The module called `name`.
pub fn module(name: &str) -> Option<&'static Module> {
    MODULES.iter().find(|module| module.name == name)
}

/// The table shape called `name`.
pub fn class(name: &str) -> Option<&'static Class> {
    CLASSES.iter().find(|class| class.name == name)
}
