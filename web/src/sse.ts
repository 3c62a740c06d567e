// SPDX-License-Identifier: Apache-2.0
// Server-sent events over fetch(): unlike EventSource it can send a token.

export interface Message {
  event: string;
  data: string;
}

/** Takes the stream's text in whatever pieces it comes, gives its whole messages. */
export class MessageParser {
  private rest = '';

  push(text: string): Message[] {
    const blocks = (this.rest + text).split('\n\n');
    this.rest = blocks.pop() ?? '';
    return blocks.map(parseBlock).filter((message) => message !== null);
  }
}

function parseBlock(block: string): Message | null {
  let event = 'message';
  const data: string[] = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('event: ')) event = line.slice(7);
    if (line.startsWith('data: ')) data.push(line.slice(6));
  }
  return data.length === 0 ? null : {event, data: data.join('\n')};
}

/** Why a stream ended: the status of a refusal, or 0 if it broke. */
export class Broken extends Error {
  constructor(readonly status: number, text: string) {
    super(text);
  }
}

/** Reads until the stream ends or breaks; it rejects with Broken then, whatever the reason. */
export async function read(path: string, headers: HeadersInit, signal: AbortSignal, take: (message: Message) => void) {
  const answer = await fetch(path, {headers, signal, cache: 'no-store'});
  if (!answer.ok || answer.body === null) throw new Broken(answer.status, await refusal(answer));
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  const parser = new MessageParser();
  for (;;) {
    const {done, value} = await reader.read();
    if (done) throw new Broken(0, 'control has closed the connection');
    parser.push(decoder.decode(value, {stream: true})).forEach(take);
  }
}

/** The error of an answer, as docs/api.md has it. */
export async function refusal(answer: Response): Promise<string> {
  try {
    const body = (await answer.json()) as {error?: string; remedy?: string};
    return [body.error, body.remedy].filter(Boolean).join('; ');
  } catch {
    return `control answered ${answer.status}`;
  }
}
