"""The upload forms, as any Django tutorial has them."""
from django import forms

from documents.models import Document


class DocumentForm(forms.ModelForm):
    folder = forms.CharField(max_length=200, required=False)
    file = forms.FileField(allow_empty_file=True)

    class Meta:
        model = Document
        fields = ["title", "folder", "file", "picture"]

    def clean_folder(self):
        return self.cleaned_data["folder"] or "documents"


class FileForm(forms.Form):
    file = forms.FileField(allow_empty_file=True)
