"""Every word that the command line says, in each of its languages.

Words of the relay and of AnythingLLM come as they are, in the language that those speak.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """One language; what is in {} is filled in."""

    # the help
    about: str
    about_ask: str
    ends_with: str
    what_to_ask: str
    where_to_ask: str
    how_it_shows: str
    help: str
    question: str
    file: str
    traceback: str
    fix: str
    url: str
    key_file: str
    workspace: str
    session: str
    mode: str
    plain: str
    # the prompt, which the model reads
    please_fix: str
    please_find: str
    please_explain: str
    code_of: str
    named_lines: str
    error_output: str
    left_out: str
    # what is wrong with a command
    no_question: str
    no_address: str
    not_read: str
    not_utf8: str
    binary: str
    too_large: str
    too_large_in_all: str
    no_key: str
    # what happens
    lost: str
    output: str
    sources: str
    failed: str
    stopped: str
    broken_off: str
    refused: str
    unreachable: str
    not_written: str
    needs_key: str
    wrong_key: str
    waiting: str
    start_it: str
    interrupted: str


ENGLISH = Words(
    about="A client of the relay. The relay itself starts with: python run.py",
    about_ask="Ask AnythingLLM through the relay, and read the answer while it is written.",
    ends_with="""\
ask for help with a program that fails:
  python broken.py 2>&1 | python -m relay ask --fix broken.py

environment:
  ASK_RELAY_URL   where the relay answers, without --url
  ASK_RELAY_KEY   your key, where the relay wants one; a command line could be read by others
  LC_ALL, LC_MESSAGES, LANG   zh...: Chinese

exit status: 0 the answer is whole; 1 it failed, or was lost; 2 bad arguments or files;
  3 the relay refused the question, or cannot be reached; 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP;
  141 nobody reads the output any more""",
    what_to_ask="what to ask",
    where_to_ask="where to ask",
    how_it_shows="how it shows",
    help="show this, and exit",
    question="the question; without one it is read from standard input",
    file="a file that belongs to the question; may be given several times",
    traceback="error output that belongs to it, from FILE or from standard input",
    fix="ask what is wrong with this program; error output is read from standard input, "
    "or as --traceback says",
    url="where the relay answers (http://localhost:5000)",
    key_file="a file whose first line is your key, before ASK_RELAY_KEY",
    workspace="the workspace to ask",
    session="the conversation that the question belongs to",
    mode="chat, query (only from documents) or automatic (agents)",
    plain="plain text on a terminal too",
    please_fix="The program {name} fails. Find the cause, explain it in a few sentences, "
    "and show the corrected code.",
    please_find="Find what is wrong with {name}, explain it in a few sentences, "
    "and show the corrected code.",
    please_explain="Explain this error, and how to mend it.",
    code_of="{name}:",
    named_lines="The error output names these lines of {name}, the innermost last: {lines}.",
    error_output="Error output:",
    left_out="[{count} bytes before this are left out]",
    no_question="There is no question: give it as arguments, or on standard input.",
    no_address="{url} is no address like http://localhost:5000.",
    not_read="{name} cannot be read: {why}.",
    not_utf8="{name} is not text in UTF-8.",
    binary="{name} is no text: it holds NUL bytes.",
    too_large="{name} is too large: the relay takes {most} in all.",
    too_large_in_all="The question with its files comes to {size}, and the relay takes {most}.",
    no_key="{name} holds no key: it must be visible ASCII characters.",
    lost="The connection is lost; trying to have it back.",
    output="Made by the agent: {kind} {name}",
    sources="Sources:",
    failed="The answer failed: {message} ({code})",
    stopped="The answer was stopped.",
    broken_off="The answer broke off. {why}",
    refused="The relay refused the question: {message} ({code})",
    unreachable="The relay cannot be reached. {why}",
    not_written="The answer cannot be written: {why}.",
    needs_key="Set ASK_RELAY_KEY to your key, or give a file that holds it: --key-file FILE.",
    wrong_key="The key that ASK_RELAY_KEY or --key-file holds is none of the relay's.",
    waiting="Waiting for error output on standard input; without any, end it: < /dev/null",
    start_it="Start the relay with: python run.py (to try it without AnythingLLM: python run.py --demo)."
    " Or name another address: --url URL.",
    interrupted="Stopped.",
)

CHINESE = Words(
    about="中继的客户端。启动中继本身：python run.py",
    about_ask="通过中继向 AnythingLLM 提问，回答边写边显示。",
    ends_with="""\
让它帮忙修一个出错的程序：
  python broken.py 2>&1 | python -m relay ask --fix broken.py

环境变量：
  ASK_RELAY_URL   没有 --url 时中继的地址
  ASK_RELAY_KEY   你的密钥（如果中继需要）；命令行参数会被其他用户看到
  LC_ALL、LC_MESSAGES、LANG   以 zh 开头：中文

退出状态：0 回答完整；1 回答失败或中断；2 参数或文件有误；3 中继拒绝了问题，或无法连接；
  130 Ctrl-C，143 SIGTERM，129 SIGHUP；141 输出已没有人读""",
    what_to_ask="问什么",
    where_to_ask="向哪里问",
    how_it_shows="怎样显示",
    help="显示本帮助并退出",
    question="问题；不给则从标准输入读取",
    file="与问题有关的文件；可以多次给出",
    traceback="与问题有关的错误输出，来自 FILE 或标准输入",
    fix="问这个程序错在哪里；错误输出从标准输入读取，或由 --traceback 指定",
    url="中继的地址（http://localhost:5000）",
    key_file="第一行是密钥的文件，优先于 ASK_RELAY_KEY",
    workspace="向哪个工作区提问",
    session="问题所属的会话",
    mode="chat、query（只根据文档）或 automatic（智能体）",
    plain="在终端上也只显示纯文本",
    please_fix="程序 {name} 运行出错。请找出原因，用几句话解释，并给出改正后的代码。",
    please_find="请找出 {name} 有什么问题，用几句话解释，并给出改正后的代码。",
    please_explain="请解释这个错误，以及如何改正。",
    code_of="{name}：",
    named_lines="错误输出提到了 {name} 的这些行，最里层的在最后：{lines}。",
    error_output="错误输出：",
    left_out="[前面的 {count} 字节已省略]",
    no_question="没有问题：请作为参数给出，或从标准输入给出。",
    no_address="{url} 不是像 http://localhost:5000 这样的地址。",
    not_read="无法读取 {name}：{why}。",
    not_utf8="{name} 不是 UTF-8 文本。",
    binary="{name} 不是文本：其中有 NUL 字节。",
    too_large="{name} 太大：中继总共只接受 {most}。",
    too_large_in_all="问题连同文件共 {size}，而中继只接受 {most}。",
    no_key="{name} 中没有密钥：密钥必须是可见的 ASCII 字符。",
    lost="连接断开，正在尝试恢复。",
    output="智能体生成：{kind} {name}",
    sources="来源：",
    failed="回答失败：{message}（{code}）",
    stopped="回答已被停止。",
    broken_off="回答中断。{why}",
    refused="中继拒绝了问题：{message}（{code}）",
    unreachable="无法连接中继。{why}",
    not_written="无法写出回答：{why}。",
    needs_key="请把密钥放进 ASK_RELAY_KEY，或用 --key-file FILE 给出存放密钥的文件。",
    wrong_key="ASK_RELAY_KEY 或 --key-file 里的密钥不被中继接受。",
    waiting="正在等待标准输入里的错误输出；没有的话请结束它：< /dev/null",
    start_it="启动中继：python run.py（没有 AnythingLLM 也想试试：python run.py --demo）。"
    "或用 --url URL 指定其他地址。",
    interrupted="已停止。",
)


def in_language_of(environment: Mapping[str, str]) -> Words:
    """Return the words of the locale: the first of LC_ALL, LC_MESSAGES and LANG that is set."""
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    chosen = next((environment[name] for name in names if environment.get(name)), "")
    return CHINESE if chosen.lower().startswith("zh") else ENGLISH
