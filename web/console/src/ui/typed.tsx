// SPDX-License-Identifier: Apache-2.0
import { TextInput } from '@mantine/core';
import { useDebouncedCallback } from '@mantine/hooks';
import { IconSearch } from '@tabler/icons-react';
import { useEffect, useRef, useState } from 'react';

interface TypedProps {
  label: string;
  value: string;
  onChange: (v: string) => void;
  read?: (text: string) => string; // what is meant by what is typed; '': nothing yet
  wrong?: string; // said of a text that means nothing
  placeholder?: string;
  icon?: boolean;
  className?: string;
}

const trim = (text: string) => text.trim();

// Typed is a filter that is typed: it is asked for when the typing stops, not at
// each letter.
export function Typed({ label, value, onChange, read = trim, wrong, placeholder, icon, className }: TypedProps) {
  const [text, setText] = useState(value);
  const last = useRef(value);
  useEffect(() => {
    if (value !== last.current) setText(value); // changed elsewhere: a view, a link, the way back
    last.current = value;
  }, [value]);
  const send = useDebouncedCallback((v: string) => {
    last.current = v;
    onChange(v);
  }, 300);
  return (
    <TextInput
      {...(className ? { className } : {})}
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
}
