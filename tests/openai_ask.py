"""A client with the Python package `openai`: `python openai_ask.py URL QUESTION`.

The answer goes to standard output as it comes, a failure to standard error; Ctrl-C stops the answer.
"""

import sys

import openai


def main() -> None:
    """Ask, and show the answer."""
    url, question = sys.argv[1:]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
    try:
        stream = client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": question}], stream=True
        )
        for chunk in stream:
            text = chunk.choices[0].delta.content if chunk.choices else None
            sys.stdout.buffer.write((text or "").encode())
            sys.stdout.buffer.flush()
    except openai.APIError as error:
        sys.stderr.write(error.message)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
