// SPDX-License-Identifier: Apache-2.0
import { TextInput } from '@mantine/core';
import { useDebouncedCallback } from '@mantine/hooks';
import { IconSearch } from '@tabler/icons-react';
import { useEffect, useId, useRef, useState } from 'react';

interface TypedProps {
  label: string;
  value: string;
  onChange: (v: string) => void;
  read?: (text: string) => string; // what is meant by what is typed; '': nothing yet
  wrong?: string; // said of a text that means nothing
  placeholder?: string;
  icon?: boolean;
  className?: string;
  known?: readonly string[]; // is offered, anything may be typed
  most?: number; // characters
}

const trim = (text: string) => text.trim();

// Typed is a filter that is typed: it is asked for when the typing stops, not at
// each letter.
export function Typed({ label, value, onChange, read = trim, wrong, placeholder, icon, className, known, most }: TypedProps) {
  const [text, setText] = useState(value);
  const last = useRef(value);
  const list = useId();
  useEffect(() => {
    if (value !== last.current) setText(value); // changed elsewhere: a view, a link, the way back
    last.current = value;
  }, [value]);
  const send = useDebouncedCallback((v: string) => {
    last.current = v;
    onChange(v);
  }, 300);
  const field = (
    <TextInput
      {...(className ? { className } : {})}
      {...(known ? { list } : {})}
      {...(most ? { maxLength: most } : {})}
      label={label}
      {...(placeholder ? { placeholder } : {})}
      leftSection={icon && <IconSearch size={16} aria-hidden />}
      value={text}
      onChange={(e) => {
        const typed = e.currentTarget.value;
        setText(typed);
        if (typed.trim() === '' || read(typed) !== '') send(read(typed));
        else send.cancel(); // half of it means nothing yet
      }}
      error={wrong && text.trim().length > 12 && read(text) === '' ? wrong : undefined}
      spellCheck={false}
      autoComplete="off"
    />
  );
  if (!known) return field;
  return (
    <div>
      {field}
      <datalist id={list}>
        {known.map((k) => (
          <option key={k} value={k} />
        ))}
      </datalist>
    </div>
  );
}
