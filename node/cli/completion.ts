/**
 * The tab key: `flowmesh completion bash` prints a script for a shell, which calls `flowmesh complete -- <words>` each
 * time and offers the lines that it prints, as `<word>` TAB `<what it is>`. Where nothing is printed, it offers files.
 *
 *   eval "$(flowmesh completion bash)"       # in ~/.bashrc; zsh: the same in ~/.zshrc
 *   flowmesh completion fish | source        # in ~/.config/fish/config.fish
 */
import { Argument, type Command, type Option } from 'commander';

export const COMPLETION = 'completion';
/** What the scripts call. */
export const COMPLETE = 'complete';

/** No script evaluates what was typed: the words are handed over as they are. */
const SCRIPTS = {
  bash: `_flowmesh() {
  local line
  COMPREPLY=()
  while IFS= read -r line; do COMPREPLY+=("\${line%%$'\\t'*}"); done < <(
    flowmesh complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null
  )
}
complete -o default -F _flowmesh flowmesh
`,
  zsh: `#compdef flowmesh
_flowmesh() {
  local line
  local -a found
  while IFS= read -r line; do
    line="\${line//:/\\\\:}"
    found+=("\${line/$'\\t'/:}")
  done < <(flowmesh complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( \${#found} )); then _describe flowmesh found; else _files; fi
}
compdef _flowmesh flowmesh
`,
  fish: `complete -c flowmesh -a '(flowmesh complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`,
};
type Shell = keyof typeof SCRIPTS;

/** @param program with the commands of the noun that the words begin with */
export function addCompletionCommands(program: Command): void {
  program
    .command(COMPLETION)
    .summary('Print a script that completes commands with the tab key')
    .description(
      'Prints a script that completes commands with the tab key. In ~/.bashrc: eval "$(flowmesh completion bash)"',
    )
    .showHelpAfterError(`(one of ${Object.keys(SCRIPTS).join(', ')})`)
    .addArgument(new Argument('<shell>', 'The shell that reads it').choices(Object.keys(SCRIPTS)))
    .action((shell: Shell) => {
      process.stdout.write(SCRIPTS[shell]);
    });
  program
    .command(COMPLETE, { hidden: true })
    .argument('[words...]')
    .action((words: string[]) => {
      for (const { word, about } of candidates(program, words)) process.stdout.write(`${word}\t${about}\n`);
    });
}

interface Candidate {
  word: string;
  about: string;
}

/** @param words what was typed after `flowmesh`; the last one is being typed, and may be empty */
export function candidates(program: Command, words: readonly string[]): Candidate[] {
  const typed = words.at(-1) ?? '';
  let command = program;
  let option: Option | undefined;
  for (const word of words.slice(0, -1)) {
    const isValue = option !== undefined;
    option = command.options.find(
      (each) => (each.long === word || each.short === word) && (each.required || each.optional),
    );
    if (isValue || word.startsWith('-') || command.commands.length === 0) continue;
    if (word === 'help') continue;
    const named = command.commands.find((each) => each.name() === word);
    if (named === undefined) return [];
    command = named;
  }
  const values = chosenFrom(option?.argChoices);
  const found = option?.required ? values : [...values, ...next(command, typed)];
  return found.filter(({ word }) => word.startsWith(typed));
}

function next(command: Command, typed: string): Candidate[] {
  const help = command.createHelp();
  if (typed.startsWith('-')) {
    return help
      .visibleOptions(command)
      .map((option) => ({ word: option.long ?? option.flags, about: firstSentence(option.description) }));
  }
  const commands = help
    .visibleCommands(command)
    .map((each) => ({ word: each.name(), about: firstSentence(each.summary() || each.description()) }));
  return [...commands, ...command.registeredArguments.flatMap((argument) => chosenFrom(argument.argChoices))];
}

function chosenFrom(choices: readonly string[] | undefined): Candidate[] {
  return (choices ?? []).map((word) => ({ word, about: '' }));
}

function firstSentence(text: string): string {
  return /^.*?[.:;](?=\s|$)/.exec(text)?.[0].slice(0, -1) ?? text;
}
