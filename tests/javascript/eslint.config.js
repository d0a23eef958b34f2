// Rules for the dashboard's modules and for their tests. Run from the root of the repository (`make lint`).
// Layout is prettier's business; layers and circles are checked by layers.test.js.

import js from "@eslint/js";
import globals from "globals";

const DASHBOARD = "services/quietbeam/serve/dashboard/js/**/*.js";
const TESTS = "tests/javascript/**/*.js";

export default [
  { ignores: ["**/node_modules/**"] },
  js.configs.recommended,
  {
    files: [DASHBOARD, TESTS],
    languageOptions: { ecmaVersion: 2023, sourceType: "module" },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      complexity: ["error", 12],
      eqeqeq: "error",
      "max-depth": ["error", 4],
      "max-len": ["error", { code: 120, ignoreUrls: true }],
      "max-lines": ["error", 250],
      "max-lines-per-function": ["error", { max: 60, skipBlankLines: true, skipComments: true }],
      "max-params": ["error", 8],
      "max-statements": ["error", 40],
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-shadow": "error",
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
    },
  },
  { files: [DASHBOARD], languageOptions: { globals: globals.browser } },
  { files: [TESTS], languageOptions: { globals: globals.node }, rules: { "max-lines-per-function": "off" } },
];
